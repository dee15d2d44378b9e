"""Offers name their code and load it when it is used."""

from __future__ import annotations

import pytest

from sfumato.errors import PluginError
from sfumato.offers import ModelFamilyOffer, SamplerOffer


def test_the_target_is_loaded_when_asked_for() -> None:
    assert SamplerOffer("root", "math:sqrt").load()(25) == 5


def test_the_target_may_stand_in_a_table() -> None:
    assert SamplerOffer("root", "string:__dict__[digits]").load() == "0123456789"


@pytest.mark.parametrize("target", ["nowhere:x", "math:nowhere", "string:__dict__[nowhere]", "math"])
def test_a_target_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(PluginError, match="'root' cannot be loaded") as caught:
        SamplerOffer("root", target).load()
    assert caught.value.where == target


def test_a_family_has_a_recogniser_of_its_own() -> None:
    assert ModelFamilyOffer("f", "nowhere:x", recognise="math:sqrt").load_recogniser()(4) == 2
