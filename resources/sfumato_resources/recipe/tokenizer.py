"""The vocabulary: byte-level pairs merged by frequency over the world's captions, in CLIP's file format.

Byte pair encoding: Sennrich, Haddow, Birch, Neural Machine Translation of Rare Words with Subword Units, 2016. The mapping of bytes
to printable characters is that of GPT-2's vocabulary, so any string can be encoded.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

from transformers import CLIPTokenizer

from sfumato_resources.recipe.words import EXTRAS, FILLERS
from sfumato_resources.world.captions import caption
from sfumato_resources.world.scenes import sample_scene

POSITIONS: Final = 77
_END_OF_WORD: Final = "</w>"
_Word = tuple[str, ...]


def make_tokenizer(folder: Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and the tokenizer's configuration into ``folder``."""
    words = {_split(word): count for word, count in _word_counts().items()}
    merges = _merges(words)
    letters = _byte_letters()
    tokens = dict.fromkeys([*letters, *(letter + _END_OF_WORD for letter in letters), *(a + b for a, b in merges)])
    vocabulary = [*tokens, "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    numbered = {token: number for number, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbered, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=POSITIONS)
    tokenizer.save_pretrained(folder)


def _word_counts() -> Counter[str]:
    rng = random.Random("vocabulary")
    counts: Counter[str] = Counter()
    for _ in range(20_000):
        counts.update(re.findall(r"[a-z]+|[^\sa-z]", caption(sample_scene(rng), rng).lower()))
    for word in (*FILLERS, *EXTRAS, "gray", "grey"):
        counts[word] += 30
    return counts


def _split(word: str) -> _Word:
    return (*word[:-1], word[-1] + _END_OF_WORD)


def _byte_letters() -> list[str]:
    """A printable character for each of the 256 bytes: itself where it is printable, else one from 256 upwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def _merges(words: dict[_Word, int]) -> list[tuple[str, str]]:
    """Merge the most frequent pair again and again until every word is one token."""
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            return merges
        pair = max(pairs, key=lambda candidate: (pairs[candidate], candidate))
        merges.append(pair)
        merged: Counter[_Word] = Counter()
        for word, count in words.items():
            merged[_joined(word, pair)] += count
        words = dict(merged)


def _joined(word: _Word, pair: tuple[str, str]) -> _Word:
    out: list[str] = []
    index = 0
    while index < len(word):
        if word[index : index + 2] == pair:
            out.append(word[index] + word[index + 1])
            index += 2
        else:
            out.append(word[index])
            index += 1
    return tuple(out)
