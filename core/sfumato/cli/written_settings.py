"""From the `parameters` text that A1111-style tools write into pictures to a request, as far as it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sfumato.app import App
from sfumato.cli.request_options import known
from sfumato.errors import BadValueError, ImageFileError
from sfumato.images.parameters import Parameters, sampler_name, schedule_name
from sfumato.models import ModelFile
from sfumato.request import GenerateRequest, LoraUse

_LORA = re.compile(r"\s*<lora:([^:<>]+)(?::(-?[0-9.]+))?[^<>]*>")
_SIZE = re.compile(r"(\d{1,5})\s*x\s*(\d{1,5})")
_UNDERSTOOD = frozenset(
    {"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE", "VAE hash", "Clip skip", "Version"}
    | {"Lora hashes", "Denoising strength"}
)
_OLD_SCHEDULES = ("karras", "exponential")


def request_from(app: App, parameters: Parameters, where: str) -> tuple[GenerateRequest, list[str]]:
    """(request, what of the text could not be followed, in words). Raises ImageFileError where the text says too little,
    ModelMissingError for a model that is not there."""
    fields = parameters.fields
    if "Seed" not in fields or "Steps" not in fields:
        raise ImageFileError("the settings that the picture carries name no seed or no steps", where, "It cannot be made again from them.")
    words = ["the noise of other tools may differ for the same seed"]
    words += [f"the setting {name!r} is not known here" for name in fields if name not in _UNDERSTOOD]
    if "Denoising strength" in fields:
        words.append("it was made from another picture, which it does not carry")
    file = app.library.find("checkpoints", fields.get("Model", "embedded"))
    words += _hash_words(app, file, fields.get("Model hash", ""))
    size = _SIZE.fullmatch(fields.get("Size", "512x512").strip())
    try:
        prompt, loras = _without_loras(app, parameters.prompt)
        request = GenerateRequest(
            prompt=prompt,
            negative=parameters.negative,
            model=file.name,
            vae=app.library.find("vae", fields["VAE"]).name if fields.get("VAE") else "",
            width=int(size[1]) if size else 512,
            height=int(size[2]) if size else 512,
            steps=int(fields["Steps"]),
            cfg=float(fields.get("CFG scale", 7)),
            sampler=known("sampler", sampler_name(fields.get("Sampler", "Euler")), app.catalogue.resolve("samplers")),
            schedule=known("schedule", _schedule(fields), app.catalogue.resolve("schedules")),
            seed=int(fields["Seed"]),
            clip_skip=int(fields.get("Clip skip", 1)),
            loras=loras,
        ).checked()
    except (ValueError, BadValueError) as error:
        what = error.what if isinstance(error, BadValueError) else str(error)
        raise ImageFileError(f"a setting that the picture carries cannot be used: {what}", where) from error
    return request, words


def _schedule(fields: Mapping[str, str]) -> str:
    said = schedule_name(fields.get("Schedule type", "Automatic"))
    old = fields.get("Sampler", "").casefold().split()[-1:]
    if said.casefold() != "automatic":
        return said
    return old[0] if old and old[0] in _OLD_SCHEDULES else "normal"


def _hash_words(app: App, file: ModelFile, short: str) -> list[str]:
    if not short or app.hash_of(file).startswith(short.lower()):
        return []
    return [f"the model {file.name} is not the same file: its hash does not begin with {short}"]


def _without_loras(app: App, prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
    found: list[Any] = _LORA.findall(prompt)
    loras = tuple(LoraUse(app.library.find("loras", name).name, float(weight or 1)) for name, weight in found)
    return _LORA.sub("", prompt), loras
