"""Models as folders in diffusers layout: what `model_index.json` and `config.json` say, read within bounds; no weight is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import ModelFileError
from sfumato.models.recognised import Kind, Recognised

_MOST_BYTES = 4 << 20
_MOST_DEPTH = 32
_UNET_FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_PIPELINE_FAMILIES = (
    ("StableDiffusionXL", "sdxl"),
    ("StableDiffusion3", "sd3"),
    ("Flux2", "flux2"),
    ("Flux", "flux"),
    ("PixArt", "pixart"),
)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON table of a model folder. Raises ModelFileError naming the file."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelFileError(f"more than {_MOST_BYTES:,} bytes of configuration", str(path))
        value = read_json(path.read_bytes(), most_bytes=_MOST_BYTES, most_depth=_MOST_DEPTH)
    except FileNotFoundError as error:
        raise ModelFileError("there is no such file", str(path), "The model folder is not complete: get it again.") from error
    except (OSError, JsonFault) as error:
        raise ModelFileError(f"the configuration cannot be read: {error}", str(path), "Get the model again.") from error
    if not isinstance(value, dict):
        raise ModelFileError("the configuration is no JSON table", str(path), "Get the model again.")
    return value


def recognise_folder(folder: Path) -> Recognised:
    """What a folder in diffusers layout is: a whole pipeline, or one component. Raises ModelFileError."""
    if (folder / "model_index.json").is_file():
        return _pipeline(folder, read_config(folder / "model_index.json"))
    if (folder / "config.json").is_file():
        return _component(folder, read_config(folder / "config.json"))
    what = "this folder holds no model in diffusers layout: there is neither model_index.json nor config.json"
    raise ModelFileError(what, str(folder), "Name the folder above or below, or a .safetensors file.")


def _pipeline(folder: Path, index: Mapping[str, Any]) -> Recognised:
    name = str(index.get("_class_name", ""))
    details: dict[str, Any] = {"layout": "diffusers", "pipeline": name, "has_text_encoder": _has(index, "text_encoder")}
    details["has_vae"] = _has(index, "vae")
    family = next((family for sign, family in _PIPELINE_FAMILIES if name.startswith(sign)), "")
    if not family and _has(index, "unet"):
        unet = read_config(folder / "unet" / "config.json")
        details |= _unet_details(unet)
        # Small models of this layout have text encoders of any width: the pipeline's name decides, and 2.x is told by its width.
        family = "sd2" if unet.get("cross_attention_dim") == 1024 else "sd1" if name.startswith("StableDiffusion") else ""
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        details["prediction"] = str(read_config(scheduler).get("prediction_type", "epsilon"))
    return Recognised("checkpoint", family, f"model_index.json names the pipeline {name or 'without a name'}", details)


def _component(folder: Path, config: Mapping[str, Any]) -> Recognised:
    name = str(config.get("_class_name") or next(iter(_texts(config.get("architectures"))), ""))
    kinds: tuple[tuple[str, Kind], ...] = (
        ("ControlNet", "controlnet"),
        ("UNet", "unet"),
        ("Transformer2D", "unet"),
        ("Autoencoder", "vae"),
        ("CLIPText", "clip"),
        ("T5", "clip"),
    )
    kind: Kind = next((kind for sign, kind in kinds if sign in name), "unknown")
    details: dict[str, Any] = {"layout": "diffusers", "class": name}
    if kind in ("unet", "controlnet"):
        details |= _unet_details(config)
    if kind == "vae":
        details["latent_channels"] = config.get("latent_channels")
    width = config.get("cross_attention_dim")
    family = _UNET_FAMILIES.get(width, "") if isinstance(width, int) else ""
    return Recognised(kind, family, f"config.json names the class {name or 'without a name'}", details)


def _unet_details(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"in_channels": config.get("in_channels"), "context_dim": config.get("cross_attention_dim")}


def _has(index: Mapping[str, Any], part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and any(entry)


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
