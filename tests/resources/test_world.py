"""The world: the same seed gives the same scene, picture and sentence, and each says what the scene holds."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from sfumato_resources.world.benchmark import held_out
from sfumato_resources.world.captions import caption
from sfumato_resources.world.colours import cielab
from sfumato_resources.world.depth import depth_map
from sfumato_resources.world.drawing import draw, draw_array
from sfumato_resources.world.edges import canny
from sfumato_resources.world.scenes import COLOURS, INVISIBLE, KINDS, LORA_STYLES, STYLES, Scene, Thing, sample_scene


def scenes(count: int) -> list[Scene]:
    rng = random.Random("tests")
    return [sample_scene(rng) for _ in range(count)]


def circle(x: float = 0.5, y: float = 0.5, radius: float = 0.2, ground: str = "white", style: str = "flat") -> Scene:
    return Scene(ground, style, (Thing("circle", "red", x, y, radius, "medium", "center", "center"),))


def test_a_seed_gives_the_same_scene_picture_and_sentence() -> None:
    first, second = (sample_scene(random.Random(7)) for _ in range(2))
    assert first == second
    assert np.array_equal(draw_array(first, 3), draw_array(second, 3))
    assert caption(first, random.Random(1)) == caption(second, random.Random(1))


def test_things_stay_inside_and_can_be_seen() -> None:
    for scene in scenes(500):
        for thing in scene.things:
            assert 0.1 < thing.x < 0.9 and 0.1 < thing.y < 0.9
            assert (thing.colour, scene.ground) not in INVISIBLE


def test_a_pair_stands_in_the_order_that_its_relation_says() -> None:
    pairs = [scene for scene in scenes(300) if scene.relation]
    assert len(pairs) > 100
    for scene in pairs:
        first, second = scene.things
        assert first.x < second.x if scene.relation == "left-right" else first.y < second.y


def test_a_full_caption_names_everything() -> None:
    rng = random.Random(2)
    for scene in scenes(200):
        text = caption(scene, rng, full=True)
        for thing in scene.things:
            assert f"{thing.colour} {thing.kind}" in text
            assert thing.size == "medium" or thing.size in text
        assert scene.style == "flat" or scene.style in text


def test_a_free_caption_leaves_things_unsaid_now_and_then() -> None:
    rng = random.Random(3)
    unsaid = sum(any(thing.colour not in caption(scene, rng) for thing in scene.things) for scene in scenes(300))
    assert 10 < unsaid < 150


def test_a_flat_red_circle_is_red_where_it_is_and_white_elsewhere() -> None:
    picture = draw_array(circle())
    assert np.abs(picture[64, 64].astype(int) - COLOURS["red"]).max() <= 6
    assert picture[4, 4].min() > 230
    red = (np.abs(picture.astype(int) - picture[64, 64]).max(-1) < 40).mean()
    assert red == pytest.approx(np.pi * 0.2**2, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_looks_different_from_the_others(kind: str) -> None:
    mine = draw_array(replace(circle(), things=(replace(circle().things[0], kind=kind),)))
    for other in set(KINDS) - {kind}:
        theirs = draw_array(replace(circle(), things=(replace(circle().things[0], kind=other),)))
        assert (np.abs(mine.astype(int) - theirs).max(-1) > 60).mean() > 0.01


def test_every_style_changes_the_thing_and_leaves_the_ground() -> None:
    flat = draw_array(circle(radius=0.15)).astype(int)
    for style in {*STYLES, *LORA_STYLES} - {"flat"}:
        other = draw_array(circle(radius=0.15, style=style)).astype(int)
        assert np.abs(other - flat)[44:84, 44:84].max() > 60
        assert np.abs(other - flat)[:24].max() <= 1


def test_a_picture_can_be_drawn_at_another_size() -> None:
    small = np.asarray(draw(circle(), side=64), float)
    large = np.asarray(draw(circle(), side=256).resize((64, 64), resample=4), float)
    assert np.abs(small - large).mean() < 3


def test_edges_lie_on_the_rim_of_a_circle_only() -> None:
    edges = canny(draw_array(circle()))
    rows, columns = np.nonzero(edges)
    distance = np.hypot(rows + 0.5 - 64, columns + 0.5 - 64)
    assert len(rows) > 100
    assert np.abs(distance - 0.2 * 128).max() < 2.5


def test_a_plain_picture_has_no_edges() -> None:
    assert not canny(np.full((32, 48, 3), 130, np.uint8)).any()


def test_near_things_are_brighter_in_the_depth_map_than_far_ones_and_than_the_ground() -> None:
    near, far = depth_map(circle(radius=0.27)), depth_map(circle(radius=0.13))
    assert near[64, 64] > far[64, 64] > 100 > near[2, 2]
    meadow = depth_map(circle(y=0.2, radius=0.1, ground="grass"))
    assert meadow[-1, 0] > meadow[90, 0] > meadow[10, 0]


def test_lab_agrees_with_published_values() -> None:
    lab = cielab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]))
    published = np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    assert np.abs(lab - published).max() < 0.6


def test_held_out_cases_do_not_hang_on_how_many_are_asked_for() -> None:
    assert held_out(3) == held_out(10)[:3]
    assert held_out(2, first=8) == held_out(10)[8:]
    assert len({text for _, text in held_out(200)}) > 190
