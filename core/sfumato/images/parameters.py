"""The `parameters` text that A1111-style tools write into pictures and read from them: prompt, negative prompt, one line of settings.

::

    a castle on a hill
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 512x512, Model: sd15

The text is for people and other tools; it cannot tell a prompt whose own line begins with "Steps: " from the settings.
The `sfumato` record is what a picture is regenerated from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SAMPLER_LABELS: Mapping[str, str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "plms": "PLMS",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "uni_pc": "UniPC",
    "lcm": "LCM",
    "deis": "DEIS",
    "ipndm": "IPNDM",
    "res_multistep": "Res Multistep",
}
"""How A1111-style tools call the samplers; names that are not here are written as they are."""

SCHEDULE_LABELS: Mapping[str, str] = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
    "linear_quadratic": "Linear Quadratic",
}
"""How A1111-style tools call the schedules."""

_NEGATIVE = "Negative prompt:"
_FIRST_FIELD = "Steps"


@dataclass(frozen=True)
class Parameters:
    """`fields` are the settings in the order of their writing: `Steps`, `Sampler`, `Schedule type`, `CFG scale`, `Seed`, `Size`,
    `Model hash`, `Model`, `Denoising strength`, `Clip skip`, `Version` ... as text."""

    prompt: str = ""
    negative: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


def format_parameters(parameters: Parameters) -> str:
    """The text. Values that hold a comma, colon, quote or line break are written as JSON strings, as A1111 does."""
    lines = [parameters.prompt]
    if parameters.negative:
        lines.append(f"{_NEGATIVE} {parameters.negative}")
    if parameters.fields:
        lines.append(", ".join(f"{key}: {_quoted(str(value))}" for key, value in parameters.fields.items()))
    return "\n".join(lines)


def parse_parameters(text: str) -> Parameters:
    """The parts of such a text. Never fails: what cannot be told apart stays in the prompt."""
    lines = text.replace("\r\n", "\n").split("\n")
    fields: dict[str, str] = {}
    if lines[-1].strip() == "" and len(lines) > 1:
        lines.pop()
    if lines[-1].lstrip().startswith(f"{_FIRST_FIELD}: ") or (len(lines) > 1 and lines[-1].count(": ") >= 3):
        fields = dict(_fields(lines.pop()))
    start = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(_NEGATIVE).removeprefix(" ")
    return Parameters("\n".join(lines[:start]), negative, fields)


def sampler_name(label: str) -> str:
    """The sampler that an A1111-style label means (also an old one with its schedule, `DPM++ 2M Karras`), else the label itself."""
    wanted = label.strip().casefold()
    for schedule in ("karras", "exponential"):
        wanted = wanted.removesuffix(f" {schedule}")
    return next((name for name, known in SAMPLER_LABELS.items() if wanted in (known.casefold(), name)), label.strip())


def schedule_name(label: str) -> str:
    """The schedule that an A1111-style label means, else the label itself."""
    wanted = label.strip().casefold()
    return next((name for name, known in SCHEDULE_LABELS.items() if wanted in (known.casefold(), name)), label.strip())


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(sign in value for sign in ',:"\n\r') or value != value.strip() else value


def _fields(line: str) -> Iterator[tuple[str, str]]:
    """`key: value` pairs; a value is a JSON string or goes up to the next comma."""
    decoder, at = json.JSONDecoder(strict=False), 0
    while (colon := line.find(":", at)) >= 0:
        key, at = line[at:colon].strip(" ,"), colon + 1
        at += len(line[at:]) - len(line[at:].lstrip(" "))
        value, end = _value(decoder, line, at)
        at = end + 1
        yield key, value


def _value(decoder: json.JSONDecoder, line: str, at: int) -> tuple[str, int]:
    if line.startswith('"', at):
        try:
            value, end = decoder.raw_decode(line, at)
        except json.JSONDecodeError:
            pass
        else:
            return value, end
    comma = line.find(",", at)
    end = len(line) if comma < 0 else comma
    return line[at:end].strip(), end
