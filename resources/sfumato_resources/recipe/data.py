"""The training set: pictures that the world draws, in chunks on disk, with their scenes, captions, latents and control pictures."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato_resources.recipe.progress import ProgressBar
from sfumato_resources.recipe.words import FILLERS
from sfumato_resources.world.captions import caption
from sfumato_resources.world.drawing import draw_array
from sfumato_resources.world.scenes import Scene, sample_scene

CHUNK: Final = 1000


def chunk_scenes(chunk: int) -> list[Scene]:
    """The scenes of one chunk; always the same, and none of those that the benchmark holds out."""
    rng = random.Random(f"training {chunk}")
    return [sample_scene(rng, pair_share=0.45) for _ in range(CHUNK)]


def draw_chunks(folder: Path, chunks: int, side: int, processes: int) -> None:
    """Write ``pictures-N.npy``, [1000, side, side, 3] uint8, for every chunk that is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [chunk for chunk in range(chunks) if not (folder / f"pictures-{chunk}.npy").exists()]
    bar = ProgressBar("pictures", len(missing))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(partial(draw_chunk, folder, side), missing), 1):
            bar.show(done)


def draw_chunk(folder: Path, side: int, chunk: int) -> None:
    """Write one chunk, aside first, so that a kill leaves no half file."""
    scenes = chunk_scenes(chunk)
    pictures = np.stack([draw_array(scene, chunk * CHUNK + index, side) for index, scene in enumerate(scenes)])
    write_array(folder / f"pictures-{chunk}.npy", pictures)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array so that the file appears whole or not at all."""
    aside = path.with_suffix(".part.npy")
    np.save(aside, array)
    aside.replace(path)


class Pictures:
    """The drawn pictures, mapped from disk: ``pictures[i]`` is [side, side, 3] uint8."""

    def __init__(self, folder: Path, chunks: int) -> None:
        self._chunks = [np.load(folder / f"pictures-{chunk}.npy", mmap_mode="r") for chunk in range(chunks)]

    def __len__(self) -> int:
        return len(self._chunks) * CHUNK

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = np.asarray(self._chunks[index // CHUNK][index % CHUNK])
        return picture


class Latents:
    """Latents [n, 4, h, w] with the scenes that they show, both in the same order."""

    def __init__(self, folder: Path, chunks: int) -> None:
        arrays = [np.load(folder / f"latents-{chunk}.npy") for chunk in range(chunks)]
        self.values = torch.from_numpy(np.concatenate(arrays))
        self.scenes = [scene for chunk in range(chunks) for scene in chunk_scenes(chunk)]

    def __len__(self) -> int:
        return len(self.scenes)


def to_network(pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """[H, W, 3] uint8 pictures -> [B, 3, H, W] float32 in -1..1, channels last in memory."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def training_caption(scene: Scene, rng: random.Random, empty: float = 0.1) -> str:
    """A caption as people may type it: sometimes empty (for guidance without a prompt), sometimes with idle words or typing habits."""
    if rng.random() < empty:
        return ""
    return roughened(caption(scene, rng, full=rng.random() < 0.5), rng)


def roughened(text: str, rng: random.Random) -> str:
    """A caption with words that mean nothing here, without its commas, with British spelling, or with a full stop."""
    if rng.random() < 0.12:
        idle = " ".join(_idle_word(rng) for _ in range(rng.randint(1, 3)))
        text = f"{text}, {idle}" if rng.random() < 0.6 else f"{idle}, {text}"
    if rng.random() < 0.1:
        text = text.replace(", ", " ")
    if rng.random() < 0.06:
        text = text.replace("gray", "grey")
    return text + "." if rng.random() < 0.2 else text


def _idle_word(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return rng.choice(FILLERS)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 6)))
