"""From a prompt to a picture, as a user does it: does it show what was asked for, and can it be made again?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sfumato.images import read_metadata, write_image
from sfumato_resources.world.checker import Checker
from sfumato_resources.world.questions import find_object

pytestmark = pytest.mark.slow

PROMPT = "a red circle on a blue background"


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


def samples(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture
def drawn(sfumato: Callable[..., Any], tmp_path: Path) -> Path:
    """The picture of the prompt, with all that the embedded model can do."""
    ran = sfumato("generate", PROMPT, "-o", tmp_path / "circle.png", "--seed", "1")
    assert ran.code == 0, ran.err
    return tmp_path / "circle.png"


def test_the_prompt_comes_true_and_can_be_made_again(sfumato: Callable[..., Any], drawn: Path, checker: Checker) -> None:
    with Image.open(drawn) as picture:
        assert find_object(picture, "circle", "red", checker=checker)
        assert checker.ground_of(picture).startswith("blue")
    assert sfumato("replay", drawn, "--json").json["identical"] is True
    again = Path(sfumato("run", drawn, "--json").json["files"][0])
    assert np.array_equal(samples(again), samples(drawn))
    assert read_metadata(again) == read_metadata(drawn)


def test_a_process_of_its_own_makes_the_same_picture(terminal: Any, drawn: Path) -> None:
    ran = terminal.run("generate", PROMPT, "-o", "circle.png", "--seed", "1", "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert np.array_equal(samples(terminal.folder / "circle.png"), samples(drawn))


def test_what_is_painted_into_the_mask_is_what_was_asked_for(
    sfumato: Callable[..., Any], drawn: Path, checker: Checker, tmp_path: Path
) -> None:
    """The circle is painted over by a star; around the mask no byte changes."""
    before = samples(drawn)
    with Image.open(drawn) as picture:
        circle = find_object(picture, "circle", "red", checker=checker)
    assert circle is not None
    side = before.shape[0]
    left, top = (max(0, round((middle - circle.radius) * side) - 12) for middle in (circle.x, circle.y))
    right, bottom = (min(side, round((middle + circle.radius) * side) + 12) for middle in (circle.x, circle.y))
    mask = np.zeros_like(before)
    mask[top:bottom, left:right] = 255
    write_image(tmp_path / "mask.png", mask)
    words = ("--image", drawn, "--mask", tmp_path / "mask.png", "--strength", "1", "--seed", "4")
    ran = sfumato("generate", "a yellow star on a blue background", *words, "-o", tmp_path / "star.png")
    assert ran.code == 0, ran.err
    after = samples(tmp_path / "star.png")
    is_outside = (mask == 0).all(-1)
    assert np.array_equal(after[is_outside], before[is_outside])
    assert (after[~is_outside] != before[~is_outside]).any(-1).mean() > 0.5
    with Image.open(tmp_path / "star.png") as picture:
        assert find_object(picture, colour="yellow", checker=checker)
        assert find_object(picture, "circle", "red", checker=checker) is None


def test_a_picture_grows_and_its_middle_stays(sfumato: Callable[..., Any], drawn: Path, tmp_path: Path) -> None:
    ran = sfumato("generate", PROMPT, "--image", drawn, "--outpaint", "32,0,32,0", "--seed", "2", "-o", tmp_path / "wide.png")
    assert ran.code == 0, ran.err
    before, after = samples(drawn), samples(tmp_path / "wide.png")
    assert after.shape == (before.shape[0], before.shape[1] + 64, 3)
    assert np.array_equal(after[:, 32:-32], before)
    for border in (after[:, :32], after[:, -32:]):
        blue = border.reshape(-1, 3).astype(int)
        assert np.median(blue[:, 2] - blue[:, 0]) > 20  # it goes on in the colour of the ground


def test_a_batch_shows_it_several_times_and_differently(sfumato: Callable[..., Any], checker: Checker, tmp_path: Path) -> None:
    ran = sfumato("generate", PROMPT, "-o", tmp_path / "circle.png", "--seed", "5", "--batch", "3", "--json")
    files = [Path(path) for path in ran.json["files"]]
    assert [path.name for path in files] == ["circle-1.png", "circle-2.png", "circle-3.png"]
    found = 0
    for path in files:
        with Image.open(path) as picture:
            found += find_object(picture, "circle", "red", checker=checker) is not None
    assert found >= 2
    assert len({samples(path).tobytes() for path in files}) == 3
    assert sfumato("replay", files[1], "--json").json["identical"] is True
