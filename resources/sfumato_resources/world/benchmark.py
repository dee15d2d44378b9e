"""Held-out captions, and the score of pictures that were made from them.

>>> cases = held_out(200)
>>> pictures = [make(caption) for _, caption in cases]
>>> print(score(pictures, [scene for scene, _ in cases]).text())
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from PIL import Image

from sfumato_resources.world.captions import caption
from sfumato_resources.world.checker import Checker, Found, Reading
from sfumato_resources.world.drawing import draw
from sfumato_resources.world.scenes import COLUMNS, ROWS, Scene, Thing, place_of, sample_scene

MINIMUM_FIT: Final = 0.1
"""A thing that explains less than this of what is around it is a smear: its kind and colour do not count. True drawings reach 0.5."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is right in one picture. ``kinds`` and ``colours`` follow the scene's things."""

    ground: bool
    position: bool
    kinds: tuple[bool, ...]
    colours: tuple[bool, ...]

    @property
    def everything(self) -> bool:
        """Nothing is wrong."""
        return self.ground and self.position and all(self.kinds) and all(self.colours)


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares in 0..1 over a set of pictures; kind and colour are counted by the thing, the others by the picture."""

    pictures: int
    things: int
    ground: float
    position: float
    kind: float
    colour: float
    everything: float

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.pictures} pictures: ground {self.ground:.1%}, position {self.position:.1%}, "
            f"colour {self.colour:.1%}, kind {self.kind:.1%}, everything {self.everything:.1%}"
        )


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of a set of pictures, whole and by the number of things, with those that true drawings of the same scenes reach."""

    overall: Figures
    one_thing: Figures
    two_things: Figures
    ceiling: Figures

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Plain numbers, for JSON."""
        return {name: asdict(figures) for name, figures in self._parts()}

    def text(self) -> str:
        """Four lines for people."""
        return "\n".join(f"{name.replace('_', ' '):11s} {figures.text()}" for name, figures in self._parts())

    def _parts(self) -> tuple[tuple[str, Figures], ...]:
        return (
            ("overall", self.overall),
            ("one_thing", self.one_thing),
            ("two_things", self.two_things),
            ("ceiling", self.ceiling),
        )


def held_out(count: int, first: int = 0) -> list[tuple[Scene, str]]:
    """Scenes that no training ever saw, with a caption that names every attribute. Case i is the same in every call."""
    cases = []
    for index in range(first, first + count):
        rng = random.Random(f"held out {index}")
        scene = sample_scene(rng)
        cases.append((scene, caption(scene, rng, full=True)))
    return cases


def score(pictures: Iterable[Image.Image], scenes: Sequence[Scene], checker: Checker | None = None) -> Score:
    """Judge one picture for each scene, and true drawings of the same scenes beside them.

    :raises ValueError: there are not as many pictures as scenes, or none
    """
    checker = checker or Checker()
    verdicts = [judge_picture(checker, picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    drawings = (draw(scene, seed=10**6 + index) for index, scene in enumerate(scenes))
    true = [judge_picture(checker, drawing, scene) for drawing, scene in zip(drawings, scenes, strict=True)]
    return Score(
        figures(verdicts),
        figures([verdict for verdict in verdicts if len(verdict.kinds) == 1]),
        figures([verdict for verdict in verdicts if len(verdict.kinds) == 2]),
        figures(true),
    )


def judge_picture(checker: Checker, picture: Image.Image, scene: Scene) -> Verdict:
    """Read a picture and compare it with the scene that it should show."""
    return judge(checker.read(picture, len(scene.things)), scene)


def judge(reading: Reading, scene: Scene) -> Verdict:
    """Compare what was read with a scene. In a pair, the left (upper) thing that was read must be the scene's first."""
    ground = reading.ground == scene.ground
    found = [thing for thing in reading.things if thing.fit >= MINIMUM_FIT]
    if len(found) < len(scene.things):
        nothing = (False,) * len(scene.things)
        return Verdict(ground, False, nothing, nothing)
    if len(scene.things) == 1:
        position = named_place(found[0], scene.things[0].size) == (scene.things[0].column, scene.things[0].row)
    else:
        found, position = _ordered(found, scene)
    kinds = tuple(a.kind == b.kind for a, b in zip(found, scene.things, strict=True))
    colours = tuple(a.colour == b.colour for a, b in zip(found, scene.things, strict=True))
    return Verdict(ground, position, kinds, colours)


def named_place(found: Found, size: str = "medium") -> tuple[str, str]:
    """The (column, row) whose nominal middle, for a thing of that size, is nearest."""
    places = {(column, row): place_of(column, row, size) for column in COLUMNS for row in ROWS}
    return min(places, key=lambda name: (places[name][0] - found.x) ** 2 + (places[name][1] - found.y) ** 2)


def _ordered(found: list[Found], scene: Scene) -> tuple[list[Found], bool]:
    """The two things in the scene's order, and whether they stand as it says and are not exchanged."""
    horizontal = scene.relation == "left-right"
    first, second = sorted(found, key=lambda thing: thing.x if horizontal else thing.y)
    dx, dy = abs(first.x - second.x), abs(first.y - second.y)
    apart = dx > dy if horizontal else dy > dx
    straight = _likeness(first, scene.things[0]) + _likeness(second, scene.things[1])
    exchanged = _likeness(first, scene.things[1]) + _likeness(second, scene.things[0])
    return [first, second], apart and straight >= exchanged


def _likeness(found: Found, thing: Thing) -> int:
    return (found.kind == thing.kind) + (found.colour == thing.colour)


def figures(verdicts: Sequence[Verdict]) -> Figures:
    """The shares of what is right; all are nan for no verdicts."""
    kinds = [right for verdict in verdicts for right in verdict.kinds]
    colours = [right for verdict in verdicts for right in verdict.colours]
    return Figures(
        pictures=len(verdicts),
        things=len(kinds),
        ground=_share([verdict.ground for verdict in verdicts]),
        position=_share([verdict.position for verdict in verdicts]),
        kind=_share(kinds),
        colour=_share(colours),
        everything=_share([verdict.everything for verdict in verdicts]),
    )


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers) if answers else float("nan")
