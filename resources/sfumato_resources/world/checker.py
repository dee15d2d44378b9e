"""The judge of pictures: reads from a picture which ground it has and which things stand where, without any network.

Every hypothesis (kind, colour, style, size, place) is a small drawing; how much better it explains the picture than the bare ground
does is a correlation of the drawing's parts with maps of colour distances. The best hypothesis is what the picture shows.
It is found coarsely over the whole picture (by fast Fourier transform) and then refined around the best places.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato_resources.world.colours import cielab, darker
from sfumato_resources.world.drawing import BROWN, OUTLINE, stripe_light
from sfumato_resources.world.grounds import paint_ground
from sfumato_resources.world.scenes import COLOURS, GROUNDS, KINDS, STYLES
from sfumato_resources.world.sprites import PARTS, Sprite, sprite

Field = NDArray[np.float32]

SIDE: Final = 64
"""Pictures are judged at this size: two of the model's pixels to one."""
_COARSE_SIDE: Final = 32
_COARSE_RADII: Final = (0.13, 0.16, 0.19, 0.26)
_RADIUS_STEPS: Final = (-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03)
_CANDIDATES: Final = 10
_TOLERANCE: Final = 5.0
_CAP: Final = 40.0
_MOST_NOISE: Final = 8.0
_STRIPE_HANDICAP: Final = 6.0
"""Stripes explain any mix of two colours, so they must explain it better than one colour does."""
_MARGIN: Final = 32
_COLOUR_NAMES: Final = tuple(COLOURS)


@dataclass(frozen=True, slots=True)
class Found:
    """A thing that was read from a picture. Place and radius are fractions of the side.

    ``fit`` is the share of what the ground leaves unexplained around the thing that the thing explains: about 0.9 for a true
    drawing, near 0 for a smear.
    """

    kind: str
    colour: str
    style: str
    x: float
    y: float
    radius: float
    fit: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows, the most conspicuous thing first."""

    ground: str
    things: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class _Guess:
    """A hypothesis with its gain; the place is the sprite's middle on the grid of ``side`` pixels."""

    gain: float
    kind: str
    colour: int
    style: str
    radius: float
    x: float
    y: float


class Checker:
    """Reads pictures. Building one draws its templates (about a second); it can then be used for any number of pictures."""

    def __init__(self) -> None:
        self._grounds = {ground: _ground_tables(ground) for ground in GROUNDS}
        self._coarse = _CoarseBank()
        self._sprites: dict[tuple[str, float, bool, float, float], Sprite] = {}

    def read(self, image: Image.Image, count: int = 1) -> Reading:
        """Read the ground of a picture and its ``count`` most conspicuous things. Any size and mode of picture is accepted."""
        lab = _lab(image)
        ground = self._ground_of(lab)
        fields = self._gain_fields(lab, ground)
        things: list[Found] = []
        for _ in range(count):
            guess = self._best(fields)
            if guess is None:
                break
            found, bare = self._explain(fields, guess)
            fields = fields.without(bare)
            things.append(found)
        return Reading(ground, tuple(things))

    def ground_of(self, image: Image.Image) -> str:
        """The ground whose drawing agrees with most of the picture."""
        return self._ground_of(_lab(image))

    def _ground_of(self, lab: Field) -> str:
        costs = {}
        for ground, table in self._grounds.items():
            distance = np.sqrt(((table - lab) ** 2).sum(-1))
            costs[ground] = float(np.minimum(distance.mean(0), _CAP).mean())
        return min(costs, key=costs.__getitem__)

    def _gain_fields(self, lab: Field, ground: str) -> _GainFields:
        """What things could explain beyond the ground; the tolerance grows with the picture's own noise."""
        distance = np.sqrt(((self._grounds[ground] - lab) ** 2).sum(-1)).min(0)
        tolerance = _TOLERANCE + min(_MOST_NOISE, float(np.median(distance)))
        return _GainFields(lab, _cost(distance, tolerance), tolerance)

    def _best(self, fields: _GainFields) -> _Guess | None:
        guesses = self._coarse.guesses(fields, _CANDIDATES)
        refined = sorted((self._refined(fields, guess) for guess in guesses), key=lambda guess: -guess.gain)
        return max((self._aligned(fields, guess) for guess in refined[:3]), key=lambda guess: guess.gain, default=None)

    def _refined(self, fields: _GainFields, guess: _Guess) -> _Guess:
        """The best radius and whole-pixel shift near a coarse guess."""
        outlined, best = guess.style == "outlined", replace(guess, gain=-np.inf)
        for step in _RADIUS_STEPS:
            template = self._sprite(guess.kind, guess.radius + step, outlined)
            gains = fields.gains(template, guess, reach=2)
            dy, dx = np.unravel_index(int(gains.argmax()), gains.shape)
            gain = float(gains[dy, dx])
            if gain > best.gain:
                x, y = guess.x + int(dx) - 2, guess.y + int(dy) - 2
                best = replace(guess, gain=gain, radius=template.radius, x=x, y=y)
        return best

    def _aligned(self, fields: _GainFields, guess: _Guess) -> _Guess:
        """The best half-pixel shift around a refined guess, and a finer radius."""
        best, outlined = guess, guess.style == "outlined"
        for dr, dx, dy in itertools.product((-0.01, 0.0, 0.01), (-0.5, 0.0, 0.5), (-0.5, 0.0, 0.5)):
            template = self._sprite(guess.kind, guess.radius + dr, outlined, dx, dy)
            gain = float(fields.gains(template, guess, reach=0)[0, 0])
            if gain > best.gain:
                best = replace(guess, gain=gain, radius=template.radius, x=guess.x + dx, y=guess.y + dy)
        return best

    def _explain(self, fields: _GainFields, guess: _Guess) -> tuple[Found, Field]:
        """The thing found, and what it leaves for others to explain."""
        x, y = int(guess.x), int(guess.y)
        template = self._sprite(guess.kind, guess.radius, guess.style == "outlined", guess.x - x, guess.y - y)
        half = template.cover.shape[-1] // 2
        window = slice(_MARGIN + y - half, _MARGIN + y + half), slice(_MARGIN + x - half, _MARGIN + x + half)
        bare = np.pad(fields.bare, _MARGIN)
        gained = sum(
            (template.cover[i] * fields.of(PARTS[i], guess.colour, guess.style)[window] for i in template.parts),
            start=np.zeros((2 * half, 2 * half), np.float32),
        )
        before = float(bare[window].sum())
        fit = float(gained.sum()) / before if before > 0 else 0.0
        bare[window] *= 1 - np.clip(template.cover.sum(0), 0, 1)
        found = Found(guess.kind, _COLOUR_NAMES[guess.colour], guess.style, guess.x / SIDE, guess.y / SIDE, guess.radius, fit)
        return found, bare[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

    def _sprite(self, kind: str, radius: float, outlined: bool, dx: float = 0.0, dy: float = 0.0) -> Sprite:
        key = kind, round(radius, 2), outlined, dx, dy
        if key not in self._sprites:
            if len(self._sprites) > 20_000:
                self._sprites.clear()
            self._sprites[key] = sprite(kind, round(radius, 2), SIDE, outlined, dx, dy)
        return self._sprites[key]


class _GainFields:
    """How much better each part of a thing of each colour would explain every pixel than the bare ground does."""

    def __init__(self, lab: Field, bare: Field, tolerance: float, costs: dict[tuple[str, int, bool], Field] | None = None) -> None:
        self.lab = lab
        self.bare = bare
        self.tolerance = tolerance
        self._costs = {} if costs is None else costs
        self._fields: dict[tuple[str, int, bool], Field] = {}

    def without(self, bare: Field) -> _GainFields:
        """The same picture when something has already been explained."""
        return _GainFields(self.lab, bare, self.tolerance, self._costs)

    def of(self, part: str, colour: int, style: str) -> Field:
        """[SIDE + 2 margins] squared, float32; nothing is gained outside the picture."""
        key = part, -1 if part in ("brown", "ink") else colour, style == "striped" and part == "main"
        if key not in self._fields:
            if key not in self._costs:
                self._costs[key] = self._cost(part, colour, key[2])
            gain = self.bare - self._costs[key]
            self._fields[key] = np.pad(gain, _MARGIN)
        return self._fields[key]

    def _cost(self, part: str, colour: int, striped: bool) -> Field:
        name = _COLOUR_NAMES[colour]
        paint = COLOURS[name]
        if striped:
            distance = _distance_to_segment(self.lab, _point(paint), _point(stripe_light(name, paint)))
            return _cost(distance + _STRIPE_HANDICAP, self.tolerance)
        shades = {"dark": darker(paint, 0.68), "darker": darker(paint, 0.45), "brown": BROWN, "ink": OUTLINE}
        return _cost(np.sqrt(((self.lab - _point(shades.get(part, paint))) ** 2).sum(-1)), self.tolerance)

    def gains(self, template: Sprite, guess: _Guess, reach: int) -> Field:
        """The gain of a template at every whole-pixel shift of at most ``reach``: [2 reach + 1, 2 reach + 1], rows first."""
        half = template.cover.shape[-1] // 2
        top, left = _MARGIN + int(guess.y) - half - reach, _MARGIN + int(guess.x) - half - reach
        size = 2 * (half + reach)
        total = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        for index in template.parts:
            area = self.of(PARTS[index], guess.colour, guess.style)[top : top + size, left : left + size]
            windows = np.lib.stride_tricks.sliding_window_view(area, (2 * half, 2 * half))
            total += np.tensordot(windows, template.cover[index], 2)
        return total


class _CoarseBank:
    """Every kind, style and rough size as templates in the frequency domain, for a search over the whole picture."""

    def __init__(self) -> None:
        self._looks = tuple(itertools.product(KINDS, _COARSE_RADII))
        self._spectra = {outlined: self._spectra_of(outlined) for outlined in (False, True)}

    def _spectra_of(self, outlined: bool) -> NDArray[np.complex64]:
        """[frequencies, looks, parts]"""
        tiles = np.zeros((len(self._looks), len(PARTS), _COARSE_SIDE, _COARSE_SIDE), np.float32)
        for index, (kind, radius) in enumerate(self._looks):
            cover = sprite(kind, radius, _COARSE_SIDE, outlined).cover
            half = cover.shape[-1] // 2
            tiles[index, :, : 2 * half, : 2 * half] = cover
            tiles[index] = np.roll(tiles[index], (-half, -half), (1, 2))
        return _by_frequency(np.conj(np.fft.rfft2(tiles)))

    def guesses(self, fields: _GainFields, count: int) -> list[_Guess]:
        """The best looks (kind, colour, style), each with its best rough size and place, best first."""
        found = [guess for style in STYLES for guess in self._of_style(fields, style)]
        found.sort(key=lambda guess: -guess.gain)
        return [guess for guess in found[:count] if guess.gain > 0]

    def _of_style(self, fields: _GainFields, style: str) -> Iterator[_Guess]:
        """The best size and place of every kind and colour in one style."""
        colours, side = range(len(_COLOUR_NAMES)), _COARSE_SIDE
        fine = np.stack([fields.of(part, colour, style) for part in PARTS for colour in colours])
        stack = _halved(fine[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]).reshape(len(PARTS), len(colours), side, side)
        spectra = self._spectra[style == "outlined"] @ _by_frequency(np.fft.rfft2(stack))
        gains = np.fft.irfft2(spectra.transpose(1, 2, 0).reshape(len(self._looks), len(colours), side, side // 2 + 1))
        by_kind = gains.reshape(len(KINDS), len(_COARSE_RADII), len(colours), -1).swapaxes(1, 2)
        for (kind, colour), place in np.ndenumerate(by_kind.reshape(len(KINDS), len(colours), -1).argmax(-1)):
            size, (y, x) = place // side**2, divmod(place % side**2, side)
            # a coarse pixel has the mean gain of two by two pixels
            gain = 4 * float(by_kind[kind, colour, size, y * side + x])
            yield _Guess(gain, KINDS[kind], colour, style, _COARSE_RADII[size], 2.0 * float(x), 2.0 * float(y))


def _by_frequency(spectra: NDArray[Any]) -> NDArray[np.complex64]:
    """[a, b, rows, columns] -> [rows * columns, a, b]"""
    flat = spectra.reshape(*spectra.shape[:2], -1).transpose(2, 0, 1)
    return np.ascontiguousarray(flat, np.complex64)


def _ground_tables(ground: str) -> Field:
    """Several drawings of a ground in CIELAB, [n, SIDE, SIDE, 3]: they differ in horizon, clouds and tint."""
    drawings = [paint_ground(ground, 2 * SIDE, random.Random(seed)) for seed in range(6)]
    return np.stack([_lab(drawing) for drawing in drawings])


def _lab(image: Image.Image) -> Field:
    return cielab(np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)))


def _cost(distance: NDArray[Any], tolerance: float) -> Field:
    return np.clip(distance - tolerance, 0.0, _CAP).astype(np.float32)


def _point(colour: tuple[int, int, int]) -> Field:
    return cielab(np.array(colour))


def _distance_to_segment(lab: Field, start: Field, end: Field) -> Field:
    along = end - start
    share = np.clip(((lab - start) @ along) / float(along @ along), 0.0, 1.0)
    distance: Field = np.sqrt(((lab - start - share[..., None] * along) ** 2).sum(-1)).astype(np.float32)
    return distance


def _halved(fields: Field) -> Field:
    """[n, side, side] -> [n, side / 2, side / 2]"""
    quarters = fields[:, ::2, ::2] + fields[:, 1::2, ::2] + fields[:, ::2, 1::2] + fields[:, 1::2, 1::2]
    return np.asarray(quarters / 4, np.float32)
