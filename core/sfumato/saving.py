"""Where saved pictures go and what they carry: names that count up, and the metadata of a run."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sfumato
from sfumato.errors import SaveError
from sfumato.images.metadata import PictureMetadata
from sfumato.images.parameters import SAMPLER_LABELS, SCHEDULE_LABELS, Parameters, format_parameters
from sfumato.images.writing import Written, write_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sfumato.nodes import NodeContext
    from sfumato.request import GenerateRequest
    from sfumato.settings import PictureSettings

_COUNTED = re.compile(r"_(\d{5,})_?\.\w+$")


def save_images(ctx: NodeContext, images: NDArray[np.float32], prefix: str, where: str) -> dict[str, Any]:
    """Write a batch [B,H,W,3] below the `output` or `temp` folder and return what clients are told: {"images": [...], "warnings"?: [...]}.

    `prefix` may name sub-folders (`trees/oak`) and hold `%date:yyyy-MM-dd%`, `%width%`, `%height%`; it cannot leave the folder.
    """
    root, how = ctx.folders.output if where == "output" else ctx.folders.temp, ctx.folders.how
    folder, stem = place_for(root, _filled(prefix, images.shape[2], images.shape[1]))
    number = next_number(folder, stem)
    shown: dict[str, Any] = {"images": []}
    for index, pixels in enumerate(images):
        name = f"{stem}_{number + index:05}_.{how.format}"
        carried = metadata_of(ctx.hidden, ctx.node_id, index, rung_of(ctx.services))
        written = save_picture(folder / name, pixels, carried, how, make_parents=True)
        shown["images"].append({"filename": name, "subfolder": folder.relative_to(root).as_posix().removeprefix("."), "type": where})
        if written.warnings:
            shown.setdefault("warnings", []).extend(f"{name}: {warning}" for warning in written.warnings)
    return shown


def save_picture(
    path: Path, pixels: NDArray[Any], carried: PictureMetadata, how: PictureSettings, *, make_parents: bool = False
) -> Written:
    """Write one picture as the settings say: the one way in which commands and nodes do it."""
    metadata = carried if how.carry else None
    return write_image(path, pixels, metadata, lossless=how.lossless, quality=how.quality, make_parents=make_parents)


def place_for(root: Path, prefix: str) -> tuple[Path, str]:
    """(folder, start of the file names) for a prefix below `root`. Raises SaveError for one that leads out of it."""
    parts = [part for part in prefix.replace("\\", "/").split("/") if part not in ("", ".")]
    if any(part == ".." or ":" in part or "\0" in part for part in parts) or prefix.startswith(("/", "\\")):
        raise SaveError(f"the file name prefix {prefix!r} leads out of the output folder", str(root), "Use a plain name or sub-folders.")
    if not parts:
        raise SaveError("the file name prefix is empty", str(root), "Give it a name.")
    folder = root.joinpath(*parts[:-1])
    try:
        os.fsencode(parts[-1])
        inside = folder.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError) as error:  # too long, links in a circle, a lone surrogate
        raise SaveError(f"no folder can be called as {prefix!r} says", str(root), "Use a plain name or sub-folders.") from error
    if not inside:
        raise SaveError(f"{prefix!r} leads out of the output folder through a link", str(root), "Use a plain name or sub-folders.")
    return folder, parts[-1]


def metadata_of(hidden: Mapping[str, Any], target: str, index: int, rung: str) -> PictureMetadata:
    """What a picture of this run carries. `target` is the node that saved it, `index` its place in the batch."""
    record = {**hidden.get("record", {}), "rung": rung, "target": target, "index": index}
    return PictureMetadata(
        prompt=hidden.get("prompt"),
        workflow=(hidden.get("extra_pnginfo") or {}).get("workflow"),
        parameters=hidden.get("parameters", ""),
        record=record,
        extra={k: v for k, v in (hidden.get("extra_pnginfo") or {}).items() if k != "workflow"},
    )


def rung_of(services: Any) -> str:
    """The highest rung of the memory ladder that the engine has needed in this run."""
    rungs = getattr(services, "rungs", None)
    return rungs[-1] if rungs else "full"


def parameters_of(request: GenerateRequest, model_hash: str) -> str:
    """The A1111-style text for a request."""
    fields = {
        "Steps": str(request.steps),
        "Sampler": SAMPLER_LABELS.get(request.sampler, request.sampler),
        "Schedule type": SCHEDULE_LABELS.get(request.schedule, request.schedule),
        "CFG scale": str(request.cfg),
        "Seed": str(request.seed),
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash,
        "Model": _bare(request.model),
        "VAE": _bare(request.vae),
    }
    if request.image is not None:
        fields["Denoising strength"] = str(request.strength)
    if request.clip_skip > 1:
        fields["Clip skip"] = str(request.clip_skip)
    fields["Version"] = f"sfumato {sfumato.__version__}"
    # LoRAs stand in the prompt, because this is where readers of such texts look for them.
    prompt = " ".join([request.prompt, *(f"<lora:{_bare(lora.name)}:{lora.weight:g}>" for lora in request.loras)])
    return format_parameters(Parameters(prompt, request.negative, {k: v for k, v in fields.items() if v}))


def _bare(model: str) -> str:
    return model.removesuffix(".safetensors")


def _filled(prefix: str, width: int, height: int) -> str:
    codes = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
    now = time.localtime()

    def date(match: re.Match[str]) -> str:
        return re.sub("|".join(codes), lambda word: time.strftime(codes[word[0]], now), match[1])

    return re.sub(r"%date:([^%]+)%", date, prefix).replace("%width%", str(width)).replace("%height%", str(height))


def next_number(folder: Path, stem: str) -> int:
    """One more than the highest number among the files `stem_00001_.png` of a folder. Raises SaveError for what is no folder."""
    taken = [0]
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return 1
    except OSError as error:
        raise SaveError(f"the folder cannot be read ({error.strerror})", str(folder), "Choose another folder.") from error
    for name in names:
        match = _COUNTED.search(name)
        if match and name[: match.start()] == stem:
            taken.append(int(match.group(1)))
    return max(taken) + 1
