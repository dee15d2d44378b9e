"""The axes of a sweep: any option of a request, or words of the prompt, with the values that it takes."""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from sfumato.cli.request_options import add_request_options
from sfumato.errors import UsageError

WORDS = "prompt"
"""The axis that replaces words: its first value is looked for, each value is put in its place."""
MOST_CELLS = 1000

_NOT_SWEPT = frozenset({"help", "cpu", "precision", "ignore-settings", "batch"})
_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")


@dataclass(frozen=True)
class Axis:
    """`name` is an option of `sfumato generate` without its dashes, or `prompt`."""

    name: str
    values: tuple[str, ...]

    def label(self, value: str) -> str:
        """A value as it stands on the sheet."""
        return value if self.name == WORDS else f"{self.name} {value}"


NO_AXIS = Axis("", ("",))
"""Stands for an axis that was not asked for."""


@dataclass(frozen=True)
class Cell:
    """One picture of the sheet: its value on each axis, and the options that make it."""

    x: str
    y: str
    z: str
    options: argparse.Namespace


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def axis(text: str) -> Axis:
    """`NAME=V1,V2,...`; values with a comma stand in double quotes, and `1..4` means 1,2,3,4."""
    name, equals, rest = text.partition("=")
    name = name.strip().lstrip("-").replace("_", "-")
    values = [value.strip() for value in next(csv.reader([rest], skipinitialspace=True), [])]
    values = [each for value in values for each in _expanded(value)]
    if not equals or not name or not values:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=V1,V2,..., such as steps=5,10,20")
    if name not in (WORDS, *swept_options()):
        raise argparse.ArgumentTypeError(f"{name!r} cannot be swept; there are: {WORDS}, {', '.join(swept_options())}")
    return Axis(name, tuple(dict.fromkeys(values)))


def swept_options() -> list[str]:
    """The options that an axis may name."""
    names = [action.option_strings[-1].removeprefix("--") for action in _parser()._actions if action.option_strings]
    return [name for name in names if name not in _NOT_SWEPT]


def cells(options: argparse.Namespace, axes: Sequence[Axis]) -> list[list[list[Cell]]]:
    """All cells, by z, y and x. Raises UsageError for values that the options do not take."""
    x, y, z = axes
    named = [each.name for each in axes if each is not NO_AXIS]
    if len(set(named)) < len(named):
        raise UsageError(f"two axes sweep the same: {', '.join(named)}", "sweep", "Sweep something else on one of them.")
    if len(x.values) * len(y.values) * len(z.values) > MOST_CELLS:
        raise UsageError(f"more than {MOST_CELLS} pictures", "sweep", "Take fewer values.")
    return [
        [
            [Cell(across, down, deep, _applied(options, zip(axes, (across, down, deep), strict=True))) for across in x.values]
            for down in y.values
        ]
        for deep in z.values
    ]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False)
    add_request_options(parser)
    return parser


def _expanded(value: str) -> Iterator[str]:
    found = _RANGE.fullmatch(value)
    if found is None:
        if value:
            yield value
        return
    first, last = int(found[1]), int(found[2])
    step = 1 if last >= first else -1
    yield from map(str, itertools.islice(range(first, last + step, step), MOST_CELLS + 1))


def _applied(options: argparse.Namespace, chosen: Iterator[tuple[Axis, str]]) -> argparse.Namespace:
    """The options with one value of each axis; options that may stand several times get one more."""
    made = copy.copy(options)
    for each, value in chosen:
        if each.name == WORDS:
            _replace_words(made, each.values[0], value)
        elif each is not NO_AXIS:
            made = _parser().parse_args([f"--{each.name}={value}", "--", made.prompt], made)
    return made


def _replace_words(options: argparse.Namespace, words: str, value: str) -> None:
    if words not in options.prompt and words not in options.negative:
        raise UsageError(f"the prompt does not hold {words!r}", WORDS, "The first value of the axis is what the others replace.")
    options.prompt = options.prompt.replace(words, value)
    options.negative = options.negative.replace(words, value)
