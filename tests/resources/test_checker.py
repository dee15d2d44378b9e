"""The judge of pictures: it reads true drawings nearly perfectly, and it sees every wrong attribute."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfumato_resources.world.benchmark import held_out, judge_picture, score
from sfumato_resources.world.checker import Checker
from sfumato_resources.world.drawing import draw, draw_array
from sfumato_resources.world.edges import canny
from sfumato_resources.world.questions import edge_agreement, find_object, ground_of, psnr, style_of
from sfumato_resources.world.scenes import COLOURS, GROUNDS, INVISIBLE, KINDS, LORA_STYLES, STYLES, Scene, Thing


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker()


def single(kind: str = "circle", colour: str = "red", ground: str = "blue", style: str = "flat") -> Scene:
    return Scene(ground, style, (Thing(kind, colour, 0.5, 0.5, 0.19, "medium", "center", "center"),))


def pair() -> Scene:
    left, right = Thing("circle", "red", 0.28, 0.5, 0.18), Thing("square", "green", 0.72, 0.5, 0.18)
    return Scene("white", "flat", (left, right), "left-right")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(checker: Checker, kind: str) -> None:
    (found,) = checker.read(draw(single(kind), 1)).things
    assert (found.kind, found.colour) == (kind, "red")
    assert (found.x, found.y) == pytest.approx((0.5, 0.5), abs=0.03)
    assert found.radius == pytest.approx(0.19, abs=0.025)


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_is_read(checker: Checker, colour: str) -> None:
    for ground in ("gray", "night"):
        assert checker.read(draw(single("heart", colour, ground), 2)).things[0].colour == colour


@pytest.mark.parametrize("ground", GROUNDS)
def test_every_ground_is_read(checker: Checker, ground: str) -> None:
    colour = next(colour for colour in COLOURS if (colour, ground) not in INVISIBLE)
    assert ground_of(draw(single("star", colour, ground), 77), checker) == ground


@pytest.mark.parametrize("style", [*STYLES, *LORA_STYLES])
def test_every_style_is_told_apart(style: str) -> None:
    for kind in ("circle", "house", "fish"):
        scene = single(kind, "purple", "yellow", style)
        shifted = replace(scene, things=(replace(scene.things[0], x=0.48, y=0.52, radius=0.2),))
        assert style_of(draw(shifted, 3), scene) == style


@pytest.mark.slow
def test_true_drawings_of_held_out_scenes_pass(checker: Checker) -> None:
    cases = held_out(25)
    figures = score((draw(scene, 5000 + i) for i, (scene, _) in enumerate(cases)), [s for s, _ in cases], checker).overall
    assert figures.ground == 1
    assert figures.position >= 0.96
    assert figures.colour >= 0.97
    assert figures.kind >= 0.94


def test_a_wrong_kind_a_wrong_colour_and_a_wrong_ground_are_each_seen(checker: Checker) -> None:
    said = single("house", "orange", "grass")
    (thing,) = said.things
    wrong_kind = judge_picture(checker, draw(replace(said, things=(replace(thing, kind="fish"),))), said)
    assert not wrong_kind.kinds[0] and wrong_kind.colours[0] and wrong_kind.ground and wrong_kind.position
    wrong_colour = judge_picture(checker, draw(replace(said, things=(replace(thing, colour="pink"),))), said)
    assert wrong_colour.kinds[0] and not wrong_colour.colours[0]
    wrong_ground = judge_picture(checker, draw(replace(said, ground="sea")), said)
    assert not wrong_ground.ground and wrong_ground.kinds[0]


def test_a_thing_at_a_wrong_place_is_seen(checker: Checker) -> None:
    said = single()
    moved = replace(said, things=(replace(said.things[0], x=0.73),))
    verdict = judge_picture(checker, draw(moved), said)
    assert not verdict.position and verdict.kinds[0]


def test_exchanged_things_and_exchanged_colours_of_a_pair_are_seen(checker: Checker) -> None:
    said = pair()
    left, right = said.things
    assert judge_picture(checker, draw(said), said).everything
    exchanged = replace(said, things=(replace(right, x=left.x), replace(left, x=right.x)))
    assert not judge_picture(checker, draw(exchanged), said).position
    colours = replace(said, things=(replace(left, colour=right.colour), replace(right, colour=left.colour)))
    assert judge_picture(checker, draw(colours), said).colours == (False, False)
    stacked = replace(said, things=(replace(left, x=0.5, y=0.28), replace(right, x=0.5, y=0.72)), relation="top-bottom")
    assert not judge_picture(checker, draw(stacked), said).position


def test_an_empty_ground_and_noise_are_no_thing(checker: Checker) -> None:
    said = single(ground="green")
    empty = judge_picture(checker, Image.new("RGB", (128, 128), (160, 216, 150)), said)
    assert empty.ground and not empty.position and empty.kinds == empty.colours == (False,)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    assert not judge_picture(checker, noise, said).everything


@pytest.mark.slow
def test_pictures_of_other_scenes_score_near_chance(checker: Checker) -> None:
    cases = held_out(30, first=500)
    others = [scene for scene, _ in held_out(200, first=600)]
    picked = [next(o for o in others if len(o.things) == len(scene.things) and o != scene) for scene, _ in cases]
    random.Random(0).shuffle(others)
    figures = score((draw(scene) for scene in picked), [scene for scene, _ in cases], checker).overall
    assert figures.kind < 0.35 and figures.colour < 0.4 and figures.ground < 0.4 and figures.everything < 0.1


def test_a_moderately_noisy_picture_is_still_read(checker: Checker) -> None:
    rng = np.random.default_rng(1)
    noisy = np.clip(draw_array(pair()) + rng.normal(0, 12, (128, 128, 3)), 0, 255).astype(np.uint8)
    assert judge_picture(checker, Image.fromarray(noisy), pair()).everything


def test_a_thing_is_found_in_its_box_and_not_elsewhere(checker: Checker) -> None:
    picture = draw(pair(), side=256)
    found = find_object(picture, "circle", "red", (0, 0, 0.5, 1), checker)
    assert found is not None and found.x < 0.4
    assert find_object(picture, "circle", "red", (0.5, 0, 1, 1), checker) is None
    assert find_object(picture, "circle", "green", checker=checker) is None
    assert find_object(picture, colour="green", checker=checker) is not None


def test_edges_agree_with_their_own_picture_and_not_with_another() -> None:
    star, fish = (draw(single(kind, "red", "white")) for kind in ("star", "fish"))
    edges = canny(np.asarray(star))
    assert edge_agreement(star, edges) > 0.99
    assert edge_agreement(fish, edges) < 0.6
    assert edge_agreement(Image.new("RGB", (128, 128)), edges) == 0


def test_psnr_of_known_errors() -> None:
    black = Image.new("RGB", (8, 8))
    assert psnr(black, black) == float("inf")
    assert psnr(Image.new("RGB", (8, 8), (255, 255, 255)), black) == pytest.approx(0)
    assert psnr(Image.new("RGB", (8, 8), (26, 26, 26)), black) == pytest.approx(19.83, abs=0.01)


def test_as_many_pictures_as_scenes_are_wanted(checker: Checker) -> None:
    with pytest.raises(ValueError, match="zip"):
        score([draw(single())], [single(), single()], checker)
