"""A request: what may be in it, and that nothing is lost on the way through JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import BadValueError
from sfumato.request import Borders, ControlUse, GenerateRequest, LoraUse, UpscaleUse

FULL = GenerateRequest(
    prompt="a house (red:1.2) \U0001f3e0",
    negative="blurry",
    width=128,
    height=256,
    seed=2**64 - 1,
    batch=3,
    clip_skip=2,
    image="in.png",
    strength=0.5,
    mask="mask.png",
    outpaint=Borders(left=64, bottom=8),
    loras=(LoraUse("a"), LoraUse("b", -0.5)),
    controls=(ControlUse("canny", "edges.png", 0.8, 0.1, 0.9, "net", True),),
    upscale=UpscaleUse("fast", 1.5),
    inpainting_model=True,
)


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.steps = 3  # type: ignore[misc]
    assert hash(FULL) == hash(replace(FULL))


@pytest.mark.parametrize("request_", [FULL, GenerateRequest("a tree")])
def test_nothing_is_lost_on_the_way_through_json(request_: GenerateRequest) -> None:
    assert GenerateRequest.from_json(json.loads(json.dumps(request_.to_json()))) == request_


def test_keys_of_a_newer_version_are_passed_over() -> None:
    assert GenerateRequest.from_json({"prompt": "a tree", "weather": "rain"}) == GenerateRequest("a tree")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"width": 100}, "width"), ({"height": 8}, "height"), ({"width": 16392}, "width"), ({"height": -64}, "height"),
        ({"steps": 0}, "steps"), ({"steps": 10001}, "steps"), ({"batch": 0}, "batch"), ({"batch": 5000}, "batch"),
        ({"cfg": -1.0}, "cfg"), ({"cfg": float("nan")}, "cfg"), ({"cfg": float("inf")}, "cfg"), ({"strength": 1.01}, "strength"),
        ({"seed": -1}, "seed"), ({"seed": 2**64}, "seed"), ({"clip_skip": 25}, "clip_skip"), ({"image": None}, "mask"),
        ({"image": None, "mask": None}, "outpaint"), ({"outpaint": Borders(left=4)}, "outpaint"),
        ({"outpaint": Borders(top=-8)}, "outpaint"), ({"outpaint": Borders(left=64, right=64)}, "outpaint"),
        ({"upscale": UpscaleUse("fast", 100.0)}, "upscale"),
        ({"upscale": UpscaleUse("fast", -1.0)}, "upscale"), ({"upscale": UpscaleUse("fast", 0.001)}, "upscale"),
        ({"upscale": UpscaleUse("fast", float("nan"))}, "upscale"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(BadValueError) as caught:
        replace(FULL, **change).checked()
    assert caught.value.where == where
    assert caught.value.remedy
    assert caught.value.exit_code == 2


def test_a_size_that_is_no_multiple_of_8_is_told_the_nearest() -> None:
    for side, near in ((100, 96), (102, 104), (1, 16), (99999, 16384)):
        with pytest.raises(BadValueError, match=f"Use {near}"):
            GenerateRequest("a tree", width=side).checked()


def test_the_limits_themselves_are_fine() -> None:
    edge = replace(FULL, width=16384, height=16, steps=10000, cfg=0.0, strength=0.0, seed=0, clip_skip=0, upscale=None, outpaint=Borders(8))
    assert edge.checked() is edge


@pytest.mark.parametrize("data", [{"prompt": None, "width": "wide"}, {"loras": [{"file": 1}]}, {"outpaint": 3}, {"upscale": [1]}])
def test_what_is_no_request_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(BadValueError):
        GenerateRequest.from_json({"prompt": "a tree", **data})


def test_a_request_without_words_is_refused() -> None:
    with pytest.raises(BadValueError):
        GenerateRequest.from_json({})


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2))


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from([*FULL.to_json(), "other"]), VALUES))
def test_any_json_gives_a_request_or_a_clear_error(data: dict[str, Any]) -> None:
    try:
        GenerateRequest.from_json(data)
    except BadValueError as error:
        assert error.what
