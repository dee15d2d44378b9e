"""The prompt grammar: a prompt's text becomes weighted pieces, each with the part of the sampling in which it holds.

Two dialects. `"sfumato"` is what people type:

====================  =======================================================================================
``(x)``               emphasis, weight times 1.1
``(x:1.3)``           weight times 1.3
``[x]``               de-emphasis, weight divided by 1.1
``[a:b:0.5]``         a in the first half of the sampling, b in the second
``[a:0.5]``           a from the half on;  ``[a::0.5]``  a up to the half
``BREAK``             what follows begins a new chunk of 77 tokens (ChunkBreak)
``embedding:name``    a textual-inversion embedding
``\\( \\) \\[ \\] \\: \\\\``    these characters themselves
====================  =======================================================================================

Brackets nest and their weights multiply. `"comfy"` is what a ComfyUI workflow means: only ``(x)``, ``(x:1.3)``,
``\\( \\)`` and ``embedding:name``; a number replaces the weight of the brackets around it instead of multiplying it.

Nothing is an error: a bracket without its partner is text. A weight is a plain decimal number of at most 30 characters (a sign
and an exponent are allowed); anything else after the colon, `nan` and `inf` too, is text. Weights end at +-WEIGHT_LIMIT.
The moment of a schedule lies in 0..1; brackets with any other number, or with more than two colons, only de-emphasise.
Parsing takes time and memory linear in the length of the text and never recurses.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from sfumato.errors import BadValueError

Dialect: TypeAlias = Literal["sfumato", "comfy"]

EMPHASIS = 1.1
WEIGHT_LIMIT = 100.0
STAGE_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Text:
    """Words of one weight. `weight` 1 changes nothing."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Embedding:
    """A textual-inversion embedding by name (extension and folder as the user wrote them)."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ChunkBreak:
    """What follows begins a new chunk of tokens."""


Piece: TypeAlias = Text | Embedding | ChunkBreak


@dataclass(frozen=True, slots=True)
class Span:
    """A piece and the part `start`..`end` (0..1) of the sampling in which it holds.

    `group` numbers the pair of emphasis brackets directly around it, 0 for none: only a schedule lies between
    two neighbours of one group, and they are read as one text.
    """

    piece: Piece
    start: float
    end: float
    group: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What the prompt says from `start` to `end` (0..1) of the sampling."""

    start: float
    end: float
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt: its spans in the order of the text."""

    spans: tuple[Span, ...]

    def stages(self) -> tuple[Stage, ...]:
        """The prompt cut at every moment at which it changes: at least one stage, together all of 0..1.

        Raises BadValueError for more than STAGE_LIMIT stages: each costs a run of the text encoder.
        """
        moments = sorted({0.0, 1.0, *(span.start for span in self.spans), *(span.end for span in self.spans)})
        if len(moments) - 1 > STAGE_LIMIT:
            raise BadValueError(
                f"the prompt changes {len(moments) - 2} times during the sampling, {STAGE_LIMIT - 1} times are possible",
                "prompt",
                "Use fewer schedules of the form [from:to:0.5], or let several change at the same moment.",
            )
        stages: list[Stage] = []
        for start, end in itertools.pairwise(moments):
            pieces = _joined([span for span in self.spans if span.start <= start and end <= span.end])
            if stages and stages[-1].pieces == pieces:
                start = stages.pop().start
            stages.append(Stage(start, end, pieces))
        return tuple(stages)


def parse(text: str, dialect: Dialect = "sfumato") -> Prompt:
    """Reads any text as a prompt of the dialect; never fails."""
    tokens = list(_tokens(text, _SFUMATO if dialect == "sfumato" else _COMFY))
    if dialect == "sfumato":
        pairs = _pairs_nearest(tokens)
    else:
        pairs = _pairs_comfy(tokens)
    return Prompt(tuple(_Walk(tokens, pairs, nested_numbers_multiply=dialect == "sfumato").spans()))


_ESCAPED = r"[()\[\]:\\]"
_SFUMATO = re.compile(
    rf"\\(?P<escaped>{_ESCAPED})|(?P<mark>[()\[\]:])|\b(?P<break>BREAK)\b"
    rf"|(?<!\w)embedding:(?P<embedding>(?:\\{_ESCAPED}|[^\s()\[\]:,])+)"
)
_COMFY = re.compile(
    r"\\(?P<escaped>[()])|(?P<mark>[():])|(?P<break>(?!))"
    r"|(?:^|(?<=[ \n()]))embedding:(?P<embedding>(?:\\[()]|[^\s():,]|,(?=[^\s():,]))+)"
)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
_NUMBER_LENGTH = 30
_PARTNER = {")": "(", "]": "["}


class _Token(NamedTuple):
    """`kind`: "text", "break", "embedding", or the bracket or colon itself."""

    kind: str
    text: str


_MARKS = {mark: _Token(mark, mark) for mark in "()[]:"}


def _tokens(text: str, grammar: re.Pattern[str]) -> Iterator[_Token]:
    at = 0
    for match in grammar.finditer(text):
        if match.start() > at:
            yield _Token("text", text[at : match.start()])
        at = match.end()
        if match["mark"]:
            yield _MARKS[match["mark"]]
        elif match["embedding"]:
            yield _Token("embedding", re.sub(rf"\\({_ESCAPED})", r"\1", match["embedding"]))
        elif match["break"]:
            yield _Token("break", match["break"])
        else:
            yield _Token("text", match["escaped"])
    if at < len(text):
        yield _Token("text", text[at:])


def _pairs_nearest(tokens: list[_Token]) -> dict[int, int]:
    """Brackets and their partners, both ways: a closing bracket takes the nearest open one of its kind; what was opened between is text."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    waiting: Counter[str] = Counter()
    for at, (kind, _) in enumerate(tokens):
        if kind in ("(", "["):
            opened.append(at)
            waiting[kind] += 1
        elif kind in _PARTNER and waiting[_PARTNER[kind]]:
            while tokens[partner := opened.pop()].kind != _PARTNER[kind]:
                waiting["(" if kind == "]" else "["] -= 1
            waiting[_PARTNER[kind]] -= 1
            pairs[at], pairs[partner] = partner, at
    return pairs


def _pairs_comfy(tokens: list[_Token]) -> dict[int, int]:
    """Brackets and their partners, both ways, where they do not balance as ComfyUI reads them.

    A stray closing bracket takes the meaning from the next opening one. An opening bracket that stays open makes all that
    follows plain text, unless the text ends in a closing bracket: then it takes that one.
    """
    pairs: dict[int, int] = {}
    opened: list[int] = []
    stray = 0
    for at, (kind, _) in enumerate(tokens):
        if kind == "(" and stray:
            stray -= 1
        elif kind == "(":
            opened.append(at)
        elif kind == ")" and opened:
            pairs[at] = opened.pop()
            pairs[pairs[at]] = at
        elif kind == ")":
            stray += 1
    at, end = (opened[0] if opened else len(tokens)), len(tokens)
    while at < end:
        if tokens[at].kind != "(":
            at += 1
        elif pairs.get(at, end) < end:
            at = pairs[at] + 1
        elif tokens[end - 1].kind == ")":
            pairs[at], pairs[end - 1] = end - 1, at
            end = end - 3 if _number_in(tokens, at, end - 1) is not None else end - 1
            at += 1
        else:
            for loose in range(at, end):
                pairs.pop(loose, None)
            break
    return pairs


def _number_in(tokens: list[_Token], opening: int, closing: int) -> float | None:
    """The number at the end of a pair of brackets, after a colon; None without one or where nothing else is in them."""
    if closing - opening < 4 or tokens[closing - 2].kind != ":" or tokens[closing - 1].kind != "text":
        return None
    number = tokens[closing - 1].text
    if len(number) > _NUMBER_LENGTH or not _NUMBER.fullmatch(number):
        return None
    return float(number)


def _limited(weight: float) -> float:
    return max(-WEIGHT_LIMIT, min(WEIGHT_LIMIT, weight))


class _Scope(NamedTuple):
    """What holds between a pair of brackets."""

    weight: float
    start: float
    end: float
    group: int


class _Walk:
    """One walk over the tokens, with a stack of scopes in the place of recursion."""

    def __init__(self, tokens: list[_Token], pairs: dict[int, int], nested_numbers_multiply: bool) -> None:
        self._tokens, self._pairs, self._multiply = tokens, pairs, nested_numbers_multiply
        self._scopes = [_Scope(1.0, 0.0, 1.0, 0)]
        self._groups = 0
        self._skips: dict[int, int] = {}
        self._switches: dict[int, _Scope] = {}
        self._colons = self._colons_by_bracket()

    def spans(self) -> Iterator[Span]:
        words: list[str] = []
        at = 0
        while at < len(self._tokens):
            kind, text = self._tokens[at]
            structural = at in self._pairs or at in self._skips or at in self._switches or kind in ("break", "embedding")
            if not structural:
                words.append(text)
            elif words:
                yield from self._text(words)
                words = []
            if kind == "embedding":
                yield from self._span(Embedding(text, self._scopes[-1].weight))
            elif kind == "break":
                yield from self._span(ChunkBreak())
            elif structural:
                self._turn(at)
            at = self._skips.get(at, at + 1)
        yield from self._text(words)

    def _turn(self, at: int) -> None:
        """Opens, changes or closes a scope."""
        if at in self._switches:
            self._scopes[-1] = self._switches[at]
        elif at in self._pairs and self._pairs[at] < at:
            self._scopes.pop()
        elif at in self._pairs and self._tokens[at].kind == "(":
            self._scopes.append(self._emphasis(at, self._pairs[at]))
        elif at in self._pairs:
            self._scopes.append(self._schedule(at, self._pairs[at]) or self._deemphasis())

    def _emphasis(self, opening: int, closing: int) -> _Scope:
        outer = self._scopes[-1]
        self._groups += 1
        number = _number_in(self._tokens, opening, closing)
        if number is None:
            weight = outer.weight * EMPHASIS
        else:
            self._skips[closing - 2] = closing
            weight = outer.weight * _limited(number) if self._multiply else number
        return outer._replace(weight=_limited(weight), group=self._groups)

    def _deemphasis(self) -> _Scope:
        outer = self._scopes[-1]
        self._groups += 1
        return outer._replace(weight=outer.weight / EMPHASIS, group=self._groups)

    def _schedule(self, opening: int, closing: int) -> _Scope | None:
        """The scope of the first text of `[a:b:t]`, `[a::t]` or `[a:t]`, b's laid ready at its colon; None if this is none of them."""
        colons = self._colons.get(opening, [])
        moment = _number_in(self._tokens, opening, closing)
        if moment is None or not 0.0 <= moment <= 1.0 or len(colons) > 2:
            return None
        self._skips[colons[-1]] = closing
        outer = self._scopes[-1]
        late = outer._replace(start=max(outer.start, moment))
        if len(colons) == 1:
            return late
        self._switches[colons[0]] = late
        return outer._replace(end=min(outer.end, moment))

    def _colons_by_bracket(self) -> dict[int, list[int]]:
        """For every opening bracket with a partner the colons directly inside it."""
        colons: dict[int, list[int]] = {}
        inside = [-1]
        for at, (kind, _) in enumerate(self._tokens):
            if kind == ":":
                colons.setdefault(inside[-1], []).append(at)
            elif at in self._pairs and self._pairs[at] > at:
                inside.append(at)
            elif at in self._pairs:
                inside.pop()
        return colons

    def _text(self, words: list[str]) -> Iterator[Span]:
        if words:
            yield from self._span(Text("".join(words), self._scopes[-1].weight))

    def _span(self, piece: Piece) -> Iterator[Span]:
        _, start, end, group = self._scopes[-1]
        if start < end:
            yield Span(piece, start, end, group)


def _joined(spans: list[Span]) -> tuple[Piece, ...]:
    """The pieces, with texts that only a schedule kept apart put together again: `a [red:blue:0.5]ish wall`."""
    pieces: list[Piece] = []
    for _, run in itertools.groupby(spans, lambda span: (span.group, isinstance(span.piece, Text))):
        neighbours = [span.piece for span in run]
        texts = [piece for piece in neighbours if isinstance(piece, Text)]
        pieces += [Text("".join(text.text for text in texts), texts[0].weight)] if texts else neighbours
    return tuple(pieces)
