"""The button Generate: from the document and the panel's values to a frozen request, and from the answer to one undoable layer. No Qt."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.layers import SELECTION, GenerativeLayer
from sfumato.document.planes import ONE, from_pixels, to_float_pixels
from sfumato.document.tiles import Tiles
from sfumato.errors import BadValueError
from sfumato.geometry import Bounds, Point
from sfumato.graph import Graph
from sfumato.images.writing import write_image
from sfumato.recipes import picture_of
from sfumato.request import GenerateRequest

MOST_PIXELS = 4096 * 4096
"""A larger frame is refused before anything runs."""


@dataclass(frozen=True)
class PanelValues:
    """What the prompt panel says. `seed` None: another one each time."""

    prompt: str
    negative: str = ""
    model: str = "embedded"
    steps: int = 20
    cfg: float = 6.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    seed: int | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Job:
    """A generation on its way: where its answer belongs is known from the start. Stale answers are told by `number`."""

    number: int
    request: GenerateRequest
    graph: Graph
    target: str
    slot: int
    frame: Bounds
    coverage: NDArray[np.float32] | None
    """The selection within the frame, [H,W] 0..1: what the answer may change. None: all of it."""


class Generate:
    """Makes jobs and takes in their answers for one document at a time."""

    def __init__(self, inputs: Path, graph_for: Callable[[GenerateRequest], Graph], native_side: Callable[[str], int]) -> None:
        """`inputs`: a folder that the engine reads pictures from. `native_side(model)`: the side of the pictures it was trained on."""
        self._inputs, self._graph_for, self._native_side = inputs, graph_for, native_side
        self._number = 0

    @property
    def latest(self) -> int:
        """The number of the newest job."""
        return self._number

    def job(self, document: Document, values: PanelValues) -> Job:
        """The job that the panel and the document mean now. Raises SfumatoError for what cannot be made."""
        structure = document.structure
        frame = (structure.frame or Bounds.of(structure.size)).clipped(structure.size)
        frame = Bounds.at(frame.left, frame.top, frame.width // 8 * 8, frame.height // 8 * 8)
        if frame.width < 64 or frame.height < 64:
            raise BadValueError(
                f"a frame of {frame.width} x {frame.height} pixels is too small to paint in", "frame", "Make it 64 x 64 or larger."
            )
        if frame.area > MOST_PIXELS:
            raise BadValueError(f"a frame of {frame.width} x {frame.height} pixels is too large", "frame", "Make it smaller.")
        coverage = self._coverage(document, frame)
        pixels = to_float_pixels(composite(document, frame))
        image, mask = self._sources(pixels, coverage, values.strength)
        seed = secrets.randbelow(2**32) if values.seed is None else values.seed
        width, height = working_size(frame, self._native_side(values.model))
        request = GenerateRequest(
            prompt=values.prompt,
            negative=values.negative,
            model=values.model,
            width=width,
            height=height,
            steps=values.steps,
            cfg=values.cfg,
            sampler=values.sampler,
            schedule=values.schedule,
            seed=seed,
            image=image,
            mask=mask,
            strength=values.strength,
        ).checked()
        graph = self._graph_for(request)
        link = picture_of(graph)
        self._number += 1
        return Job(self._number, request, graph, link.node, link.slot, frame, coverage)

    def accept(self, document: Document, job: Job, picture: NDArray[np.float32]) -> str:
        """Put the answer [1,H,W,3] of a job on a new layer above all others, as one command; returns the layer's id."""
        shown = fitted(picture[0, ..., :3], job.frame)
        planes = from_pixels(shown)
        if job.coverage is not None:
            planes = (planes * job.coverage).astype(np.uint16)
        tiles = Tiles()
        tiles.write(Bounds.at(0, 0, job.frame.width, job.frame.height), planes)
        result = Tiles()
        result.write(Bounds.at(0, 0, job.frame.width, job.frame.height), from_pixels(shown))
        layer = GenerativeLayer(
            name=_short(job.request.prompt), request=job.request, frame=job.frame, offset=Point(job.frame.left, job.frame.top)
        )
        with document.edit("Generate") as edit:
            return edit.add(layer, surfaces={"pixels": tiles, "result": result})

    def _coverage(self, document: Document, frame: Bounds) -> NDArray[np.float32] | None:
        if not document.structure.selection_active:
            return None
        coverage: NDArray[np.float32] = document.surface(SELECTION).read(frame)[0].astype(np.float32) / np.float32(ONE)
        if not coverage.any():
            raise BadValueError(
                "nothing inside the frame is selected", "selection", "Move the frame over the selection, or select nothing."
            )
        return coverage

    def _sources(self, pixels: NDArray[np.float32], coverage: NDArray[np.float32] | None, strength: float) -> tuple[str | None, str | None]:
        """Names of the picture and the mask to start from; an empty or wholly replaced frame needs neither."""
        empty = not (pixels[..., 3] if pixels.shape[-1] == 4 else np.ones(1)).any()
        if empty or (strength >= 1.0 and coverage is None):
            return None, None
        on_white = pixels[..., :3] * pixels[..., 3:4] + (1 - pixels[..., 3:4]) if pixels.shape[-1] == 4 else pixels
        image = self._kept(on_white)
        return image, None if coverage is None else self._kept(np.repeat((coverage > 0)[..., None], 3, axis=2).astype(np.float32))

    def _kept(self, pixels: NDArray[np.float32]) -> str:
        """The picture as a file that the engine may read, named by its content."""
        name = f"canvas-{hashlib.sha256(pixels.tobytes()).hexdigest()[:24]}.png"
        path = self._inputs / name
        if not path.exists():
            write_image(path, pixels, make_parents=True)
        return name


def working_size(frame: Bounds, native: int) -> tuple[int, int]:
    """The size to generate `frame` at: its own if a model trained on `native` x `native` is at home there, else as many pixels as it
    was trained on, in the same proportion. Multiples of 8."""
    factor = native / math.sqrt(frame.area)
    if 0.8 <= factor <= 1.25:
        return frame.width, frame.height
    width, height = (max(64, round(side * factor / 8) * 8) for side in (frame.width, frame.height))
    return width, height


def fitted(picture: NDArray[np.float32], frame: Bounds) -> NDArray[np.float32]:
    """[H,W,3] at the size of the frame; Lanczos, one plane at a time, without rounding to 8 bits."""
    if picture.shape[:2] == (frame.height, frame.width):
        return np.ascontiguousarray(picture)
    size = (frame.width, frame.height)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(picture[..., channel])).resize(size, Image.Resampling.LANCZOS))
        for channel in range(3)
    ]
    return np.stack(planes, axis=-1).clip(0, 1)


def hidden_for(job: Job, record: Mapping[str, Any]) -> dict[str, Any]:
    """What travels with the run of a job."""
    return {"prompt": job.graph.to_json(), "record": dict(record), "extra_pnginfo": {}}


def _short(prompt: str) -> str:
    words = " ".join(prompt.split())
    return words if len(words) <= 40 else words[:39] + "…"
