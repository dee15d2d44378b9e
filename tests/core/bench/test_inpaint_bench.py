"""The benchmark of inpainting: its quick parts reach their targets, and its selections and scenes are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfumato.app import App
from sfumato.bench import inpaint
from sfumato.bench.inpaint_scenes import gradient, moved, put_cases, random_selection
from sfumato_resources.world.colours import cielab


def test_the_quick_figures_reach_their_targets(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint, "SELECTIONS", 28)
    bench = inpaint._Bench(app, tmp_path)
    figures = [bench.protected(), *bench.colours()]
    assert [figure.is_met for figure in figures] == [True, True, True]
    assert figures[0].value == 0


def test_a_match_that_does_nothing_misses_its_target(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = inpaint._Bench(app, tmp_path)
    monkeypatch.setattr(bench, "_call", lambda name, image, **others: (image,))
    residual, _ = bench.colours()
    assert residual.value == pytest.approx(5, abs=0.1) and residual.is_met is False


def test_selections_are_of_all_kinds_and_never_empty() -> None:
    rng = np.random.default_rng(0)
    masks = [random_selection(rng, number) for number in range(70)]
    assert all((mask > 0).any() and mask.max() <= 1 for mask in masks)
    assert any((mask > 0).all() for mask in masks) and any((mask > 0).sum() == 1 for mask in masks)


def test_a_moved_picture_is_moved_by_as_much() -> None:
    picture = gradient(1)
    shift = (cielab(moved(picture, (2, -5, 3)) * 255) - cielab(picture * 255)).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(shift, (2, -5, 3), atol=0.2)


def test_the_hole_of_a_case_does_not_hold_what_is_asked_for() -> None:
    for number, case in enumerate(put_cases(2)):
        assert not case.is_found(case.picture(number)) and 0 < case.mask().mean() < 0.5
    assert [case.words for case in put_cases(3)] == [case.words for case in put_cases(3)]
