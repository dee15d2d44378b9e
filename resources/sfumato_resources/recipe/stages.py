"""The stages of the recipe in their order: what each makes, and how it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sfumato_resources.recipe.card import write_card
from sfumato_resources.recipe.controlnet import train_controlnet
from sfumato_resources.recipe.data import draw_chunks
from sfumato_resources.recipe.decoder import train_decoder
from sfumato_resources.recipe.embedding import train_embedding
from sfumato_resources.recipe.lanes import run_in_lanes
from sfumato_resources.recipe.lora import STYLES, train_lora
from sfumato_resources.recipe.pack import pack
from sfumato_resources.recipe.presets import Preset
from sfumato_resources.recipe.report import as_text, report
from sfumato_resources.recipe.text import train_text
from sfumato_resources.recipe.tokenizer import make_tokenizer
from sfumato_resources.recipe.unet import train_unet
from sfumato_resources.recipe.upscaler import train_upscaler
from sfumato_resources.recipe.vae import encode_chunks, train_vae


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the recipe."""

    preset: Preset
    workdir: Path
    processes: int
    unet_from: Path | None = None

    def folder(self, name: str) -> Path:
        """A stage's own folder."""
        folder = self.workdir / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def train(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run one training in all processes."""
        run_in_lanes(work, self.processes, self.preset, *arguments)


def _pictures(run: Run) -> None:
    draw_chunks(run.folder("pictures"), run.preset.chunks, run.preset.side, run.processes)


def _vae(run: Run) -> None:
    run.train(train_vae, run.folder("pictures"), run.folder("vae"))


def _text(run: Run) -> None:
    run.train(train_text, run.folder("tokenizer"), run.folder("text_encoder"))


def _latents(run: Run) -> None:
    run.train(encode_chunks, run.folder("pictures"), run.folder("vae"), run.folder("latents"))


def _decoder(run: Run) -> None:
    run.train(train_decoder, run.workdir, run.folder("decoder"))


def _unet(run: Run) -> None:
    run.train(train_unet, run.workdir, run.folder("unet"), run.unet_from)


def _upscaler(run: Run) -> None:
    run.train(train_upscaler, run.folder("upscaler"))


def _controlnet_canny(run: Run) -> None:
    run.train(train_controlnet, run.workdir, run.folder("controlnet-canny"), "canny")


def _controlnet_depth(run: Run) -> None:
    run.train(train_controlnet, run.workdir, run.folder("controlnet-depth"), "depth")


def _loras(run: Run) -> None:
    for style in STYLES:
        run.train(train_lora, run.workdir, run.folder(f"lora-{style.name}"), style)


def _embedding(run: Run) -> None:
    run.train(train_embedding, run.workdir, run.folder("embedding"))


def _pack(run: Run) -> None:
    pack(run.workdir, run.folder("model"))


def _report(run: Run) -> None:
    figures = report(run.folder("model"), run.preset.held_out, min(40, run.preset.held_out))
    (run.workdir / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    text = as_text(figures)
    (run.workdir / "report.txt").write_text(text + "\n", encoding="utf-8")
    write_card(run.folder("model"), figures)
    print(text)


STAGES: Final[dict[str, Callable[[Run], None]]] = {
    "tokenizer": lambda run: make_tokenizer(run.folder("tokenizer")),
    "pictures": _pictures,
    "vae": _vae,
    "text": _text,
    "latents": _latents,
    "decoder": _decoder,
    "unet": _unet,
    "upscaler": _upscaler,
    "controlnet-canny": _controlnet_canny,
    "controlnet-depth": _controlnet_depth,
    "lora": _loras,
    "embedding": _embedding,
    "pack": _pack,
    "report": _report,
}
"""In the order in which they run; each needs only what came before."""

FOLDERS: Final[dict[str, tuple[str, ...]]] = {
    "text": ("text_encoder",),
    "lora": tuple(f"lora-{style.name}" for style in STYLES),
    "pack": ("model",),
    "report": (),
}
"""Where a stage keeps its results, when that is not a folder of its own name."""


def run_stages(run: Run, names: list[str]) -> None:
    """Run the stages that are not done yet, in order. A training that was killed goes on from its last checkpoint."""
    for name in names:
        if is_done(run, name):
            continue
        STAGES[name](run)
        mark_done(run, name)


def is_done(run: Run, name: str) -> bool:
    """Whether a stage has ended."""
    return (run.workdir / "done" / name).exists()


def mark_done(run: Run, name: str) -> None:
    """Remember that a stage has ended."""
    run.folder("done").joinpath(name).touch()


def forget(run: Run, name: str) -> None:
    """Throw away a stage's results, so that it starts anew."""
    (run.workdir / "done" / name).unlink(missing_ok=True)
    for folder in FOLDERS.get(name, (name,)):
        shutil.rmtree(run.workdir / folder, ignore_errors=True)
