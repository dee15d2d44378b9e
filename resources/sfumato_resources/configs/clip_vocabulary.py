"""Derives the tokenizer files of CLIP (`vocab.json`, `merges.txt`) from the merge list that OpenAI published with it (MIT licence).

    python -m sfumato_resources.configs.clip_vocabulary bpe_simple_vocab_16e6.txt.gz FOLDER

The list is part of https://github.com/openai/CLIP and of the wheel `open_clip_torch`. CLIP (Radford et al. 2021) uses the first
48,894 merges of it; the vocabulary is the 256 byte symbols, the same at the end of a word, every merged pair, and two marks.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

MERGES = 48_894
MARKS = ("<|startoftext|>", "<|endoftext|>")
_END_OF_WORD = "</w>"


def byte_symbols() -> list[str]:
    """One printable character for each byte, in the order of the vocabulary (the alphabet of GPT-2's byte-level pair encoding).

    Printable Latin-1 stands for itself; the other bytes follow in order, from U+0100 on.
    """
    printable = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or (byte >= 0xA1 and byte != 0xAD)]
    return [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]


def vocabulary(merges: list[str]) -> dict[str, int]:
    """Token -> number, from merges written as `left right`."""
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + _END_OF_WORD for symbol in symbols), *(merge.replace(" ", "") for merge in merges), *MARKS]
    return {token: number for number, token in enumerate(tokens)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("merge_list", type=Path, help="bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("folder", type=Path, help="where vocab.json and merges.txt are written")
    arguments = parser.parse_args()
    head, *rest = gzip.decompress(arguments.merge_list.read_bytes()).decode().split("\n")
    merges = rest[:MERGES]
    vocab = json.dumps(vocabulary(merges), ensure_ascii=False, separators=(",", ":"))
    (arguments.folder / "vocab.json").write_text(vocab, encoding="utf-8")
    (arguments.folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    print(f"{head}: {len(merges)} merges, {len(vocabulary(merges))} tokens")


if __name__ == "__main__":
    main()
