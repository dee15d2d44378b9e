"""Scene -> sentence, from a grammar with variants of wording, order and punctuation, and with attributes that may go unsaid."""

from __future__ import annotations

import random
from typing import Final

from sfumato_resources.world.scenes import PLAIN_GROUNDS, Scene, Thing

_SCENIC_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "sky": ("in the sky", "sky background", "in a blue sky with clouds"),
    "sea": ("at sea", "by the sea", "sea background", "in the sea"),
    "grass": ("on the grass", "grass background", "on a green meadow"),
    "night": ("at night", "night sky", "night background"),
    "sunset": ("at sunset", "sunset background", "sunset sky"),
}
_RELATIONS: Final[dict[str, tuple[str, ...]]] = {
    "left": ("{0} left of {1}", "{0} to the left of {1}", "{0} on the left and {1} on the right"),
    "right": ("{0} right of {1}", "{0} to the right of {1}", "{0} on the right and {1} on the left"),
    "above": ("{0} above {1}", "{0} over {1}", "{0} at the top and {1} at the bottom"),
    "below": ("{0} below {1}", "{0} under {1}", "{0} at the bottom and {1} at the top"),
}
_JOINING_WORDS: Final = frozenset({"in", "on", "at", "with", "by"})


def caption(scene: Scene, rng: random.Random, full: bool = False) -> str:
    """A sentence for a scene; the same state of ``rng`` gives the same sentence.

    :param full: name every attribute (a flat style and a medium size count as unmarked); otherwise some are left out by chance
    """
    return _Sentence(scene, rng, full).text()


class _Sentence:
    """The choices that hold for one whole sentence."""

    def __init__(self, scene: Scene, rng: random.Random, full: bool) -> None:
        self.scene = scene
        self.rng = rng
        self.full = full
        self.without_articles = rng.random() < 0.25
        self.style_at_end = rng.random() < 0.45

    def text(self) -> str:
        text = self._single() if len(self.scene.things) == 1 else self._pair()
        text = self._with_style(text)
        if self.rng.random() < 0.12:
            text = self.rng.choice(("a picture of ", "a drawing of ", "an image of ")) + text
        return text

    def _said(self, chance: float) -> bool:
        return self.full or self.rng.random() < chance

    def _name(self, thing: Thing, with_style: bool) -> str:
        words = []
        if thing.size != "medium" and self._said(0.85):
            words.append(thing.size)
        if with_style and self.scene.style != "flat" and not self.style_at_end and self._said(0.95):
            words.append(self.scene.style)
        if self._said(0.93):
            words.append(thing.colour)
        name = " ".join([*words, thing.kind])
        if self.without_articles:
            return name
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"

    def _single(self) -> str:
        (thing,) = self.scene.things
        name, parts = self._name(thing, with_style=True), []
        centred = thing.column == thing.row == "center"
        if self._said(0.35 if centred else 0.85):
            parts.append(self._place(thing))
        if self._said(0.85):
            parts.append(self._ground())
        if self.rng.random() < 0.3:
            parts.reverse()
        if parts and self.rng.random() < 0.12:
            return ", ".join([parts[0], name, *parts[1:]])
        for part in parts:
            may_join = part.split()[0] in _JOINING_WORDS or part == "centered"
            name += (", " if self.rng.random() < 0.35 or not may_join else " ") + part
        return name

    def _pair(self) -> str:
        first, second = self.scene.things
        horizontal = self.scene.relation == "left-right"
        relation = "left" if horizontal else "above"
        if self.rng.random() < 0.5:
            first, second = second, first
            relation = "right" if horizontal else "below"
        names = self._name(first, with_style=True), self._name(second, with_style=False)
        text = self.rng.choice(_RELATIONS[relation]).format(*names)
        if not self.full and self.rng.random() < 0.08:
            text = f"{names[0]} and {names[1]}"
        if self._said(0.85):
            ground = self._ground()
            text += (", " if self.rng.random() < 0.5 or ground.split()[0] not in _JOINING_WORDS else " ") + ground
        return text

    def _place(self, thing: Thing) -> str:
        row, column = thing.row, thing.column
        if row == column == "center":
            return self.rng.choice(("in the center", "in the middle", "centered"))
        if column == "center":
            return self.rng.choice((f"at the {row}", f"on the {row}"))
        if row == "center":
            return self.rng.choice((f"on the {column}", f"at the {column}"))
        return self.rng.choice((f"at the {row} {column}", f"in the {row} {column} corner", f"on the {row} {column}"))

    def _ground(self) -> str:
        ground = self.scene.ground
        if ground not in PLAIN_GROUNDS:
            return self.rng.choice(_SCENIC_PHRASES[ground])
        variants = f"on a {ground} background", f"{ground} background", f"on {ground}", f"with a {ground} background"
        return self.rng.choice(variants)

    def _with_style(self, text: str) -> str:
        style = self.scene.style
        if self.style_at_end:
            if style != "flat" and self._said(0.95):
                return text + self.rng.choice((f", {style}", f", {style} style"))
            return text + ", flat style" if style == "flat" and self.rng.random() < 0.3 else text
        return f"flat style, {text}" if style == "flat" and self.rng.random() < 0.1 else text
