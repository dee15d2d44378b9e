"""Pieces of a prompt as chunks of 77 token ids with their weights; needs the tokenizer only, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from sfumato.engine.prompts import ChunkBreak, Dialect, Embedding, Piece, Text, parse
from sfumato.errors import BadValueError

CHUNK_LENGTH = 77
CHUNK_LIMIT = 64
SHORTEST_SPLIT = 8


class Tokenizer(Protocol):
    """What is used of a transformers CLIPTokenizer."""

    bos_token_id: Any
    eos_token_id: Any
    pad_token_id: Any

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> Mapping[str, Any]:
        """`["input_ids"]` is a list of ids."""


class Row(NamedTuple):
    """Row `row` of the embedding `name` stands at `position` of its chunk."""

    position: int
    name: str
    row: int


ChunkKey: TypeAlias = tuple[tuple[int, ...], tuple[Row, ...]]


class TokenCount(NamedTuple):
    """How many tokens a prompt takes (start, end and padding not counted) and in how many chunks of 75 they lie."""

    tokens: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """CHUNK_LENGTH token ids (start, words, end, padding), a weight for each, and where vectors of embeddings stand.

    Under such a vector lies the id of no special token, which is never looked at.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    rows: tuple[Row, ...] = ()

    @property
    def key(self) -> ChunkKey:
        """What the encoder sees of it: chunks of one key differ in their weights at most."""
        return self.ids, self.rows


def chunks(pieces: Sequence[Piece], tokenizer: Tokenizer, rows_of: Callable[[str], int]) -> tuple[Chunk, ...]:
    """Cuts a prompt into chunks, one at least; `rows_of(name)` says how many vectors an embedding has.

    A piece of fewer than SHORTEST_SPLIT tokens is not split at the border of two chunks, but begins the second. ChunkBreak ends
    a chunk that is not empty. Raises BadValueError for more than CHUNK_LIMIT chunks and for text that is no valid Unicode.
    """
    full: list[list[_Token]] = []
    open_chunk: list[_Token] = []
    for piece in pieces:
        tokens = _tokens(piece, tokenizer, rows_of)
        splits = len(tokens) >= SHORTEST_SPLIT
        if isinstance(piece, ChunkBreak) and open_chunk:
            full.append(open_chunk)
            open_chunk = []
        while tokens:
            room = CHUNK_LENGTH - 2 - len(open_chunk)
            taken = min(room, len(tokens)) if splits or len(tokens) <= room else 0
            open_chunk += tokens[:taken]
            tokens = tokens[taken:]
            if tokens:
                full.append(open_chunk)
                open_chunk = []
    if open_chunk or not full:
        full.append(open_chunk)
    if len(full) > CHUNK_LIMIT:
        raise BadValueError(
            f"the prompt takes {len(full)} chunks of {CHUNK_LENGTH} tokens, at most {CHUNK_LIMIT} are possible",
            "prompt",
            "Shorten it: the attention of a model thins out long before.",
        )
    return tuple(_padded(chunk, tokenizer) for chunk in full)


def token_count(
    text: str, tokenizer: Tokenizer, *, dialect: Dialect = "sfumato", rows_of: Callable[[str], int] = lambda name: 1
) -> TokenCount:
    """How long the prompt is, for the user interface; of a schedule the longest stage. Raises as `chunks` and `Prompt.stages` do."""
    counts = []
    for stage in parse(text, dialect).stages():
        tokens = sum(len(_tokens(piece, tokenizer, rows_of)) for piece in stage.pieces)
        counts.append(TokenCount(tokens, len(chunks(stage.pieces, tokenizer, rows_of))))
    return max(counts)


class _Token(NamedTuple):
    id: int
    weight: float
    name: str = ""
    row: int = 0


def _tokens(piece: Piece, tokenizer: Tokenizer, rows_of: Callable[[str], int]) -> list[_Token]:
    match piece:
        case Text(text, weight):
            return [_Token(token, weight) for token in _ids(text, tokenizer)]
        case Embedding(name, weight):
            place = _ordinary_id(tokenizer)
            return [_Token(place, weight, name, row) for row in range(rows_of(name))]
        case _:
            return []


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(
            f"half of a character stands alone ({text[error.start]!r}), which is no text",
            "prompt",
            "Type the characters around it again; half an emoji is the usual case.",
        ) from error
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _ordinary_id(tokenizer: Tokenizer) -> int:
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return next(candidate for candidate in range(4) if candidate not in special)


def _padded(tokens: list[_Token], tokenizer: Tokenizer) -> Chunk:
    filling = CHUNK_LENGTH - 2 - len(tokens)
    return Chunk(
        ids=(tokenizer.bos_token_id, *(token.id for token in tokens), tokenizer.eos_token_id, *[tokenizer.pad_token_id] * filling),
        weights=(1.0, *(token.weight for token in tokens), 1.0, *[1.0] * filling),
        rows=tuple(Row(at, token.name, token.row) for at, token in enumerate(tokens, start=1) if token.name),
    )
