"""Model families told from the names and shapes of a file's tensors.

Stable Diffusion's UNets differ where the text enters them: the second axis of a cross-attention's `to_k` is the width of the text
encoder (768 in 1.x, 1024 in 2.x, 2048 in XL). Transformers are told by the names of their blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.models.recognised import Kind, Recognised, dimension, has_prefix, prediction_hint
from sfumato.models.safetensors_file import Header

_ORIGINAL = "model.diffusion_model."
_TITLES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL", "sdxl_refiner": "the XL refiner"}
_OF_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}
_VAE_PREFIXES = ("first_stage_model.", "vae.")
_TEXT_PREFIXES = ("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.")


@dataclass(frozen=True)
class _Unet:
    """A UNet or ControlNet of Stable Diffusion: where it begins in the file, and what its two telling tensors say."""

    prefix: str
    layout: str
    first: str
    in_channels: int
    context_dim: int | None

    @property
    def family(self) -> str:
        return _OF_WIDTH.get(self.context_dim or 0, "")


def sd1(header: Header) -> Recognised | None:
    """Stable Diffusion 1.x: checkpoints, UNets, ControlNets of both layouts; also with 8 (InstructPix2Pix) or 9 (inpainting) channels."""
    return _of_family(header, "sd1")


def stable_diffusion(header: Header) -> Recognised | None:
    """Any Stable Diffusion with a UNet (1.x, 2.x, XL, its refiner), or one of an unknown width."""
    return _of_family(header, None)


def transformers(header: Header) -> Recognised | None:
    """Families whose network is a transformer: Stable Diffusion 3, Flux, and a few more by name."""
    for prefix in (_ORIGINAL, "", "transformer."):
        for family, title, telling in _TRANSFORMERS:
            if prefix + telling in header.tensors:
                is_whole = has_prefix(header.tensors, *_VAE_PREFIXES, *_TEXT_PREFIXES)
                kind: Kind = "checkpoint" if is_whole else "unet"
                details = {"layout": "original" if prefix == _ORIGINAL else "bare", "prediction": "flow", **_companions(header)}
                return Recognised(kind, family, f"it has {prefix + telling}, as {title} has", details)
    return None


_TRANSFORMERS = (
    ("sd3", "Stable Diffusion 3", "joint_blocks.0.context_block.adaLN_modulation.1.weight"),
    ("flux2", "Flux.2", "double_stream_modulation_img.lin.weight"),
    ("flux", "Flux", "double_blocks.0.img_attn.norm.key_norm.scale"),
    ("flux", "Flux (diffusers' names)", "single_transformer_blocks.0.proj_mlp.weight"),
    ("sd3", "Stable Diffusion 3 (diffusers' names)", "transformer_blocks.0.attn.add_q_proj.weight"),
    ("pixart", "PixArt", "t_block.1.weight"),
    ("auraflow", "AuraFlow", "double_layers.0.attn.w1q.weight"),
    ("lumina2", "Lumina 2", "cap_embedder.1.weight"),
    ("cascade", "Stable Cascade", "clf.1.weight"),
)


def _of_family(header: Header, wanted: str | None) -> Recognised | None:
    for find, kind in ((_controlnet, "controlnet"), (_unet, "unet")):
        found = find(header)
        if found and (wanted is None or found.family == wanted):
            return _explained(header, found, kind)
    return None


def _explained(header: Header, found: _Unet, kind: str) -> Recognised:
    is_whole = kind == "unet" and found.prefix == _ORIGINAL and has_prefix(header.tensors, *_VAE_PREFIXES, *_TEXT_PREFIXES)
    title = _TITLES.get(found.family, "Stable Diffusion of an unknown version")
    part = "ControlNet" if kind == "controlnet" else "UNet"
    shape = list(header.shape(found.first) or ())
    reason = f"{found.first} is {shape}: a UNet with {found.in_channels} input channels" if kind == "unet" else f"{found.first} is {shape}"
    width = f"text of the width {found.context_dim} enters it" if found.context_dim else "no text enters it"
    details: dict[str, Any] = {"in_channels": found.in_channels, "context_dim": found.context_dim, "layout": found.layout}
    if kind == "unet":
        details |= {"prediction": prediction_hint(header) or ("epsilon" if found.family in ("sd1", "sdxl") else "unknown")}
        details |= _companions(header)
    name: Kind = "checkpoint" if is_whole else ("controlnet" if kind == "controlnet" else "unet")
    return Recognised(name, found.family, f"{reason}; {width}: a {part} of {title}", details)


def _companions(header: Header) -> dict[str, bool]:
    return {
        "has_text_encoder": has_prefix(header.tensors, *_TEXT_PREFIXES),
        "has_vae": has_prefix(header.tensors, *_VAE_PREFIXES),
    }


def _unet(header: Header) -> _Unet | None:
    for prefix in (_ORIGINAL, ""):
        if f"{prefix}out.2.weight" in header.tensors:
            found = _network(header, prefix, "original", "input_blocks.0.0.weight", _ORIGINAL_TEXT)
            if found:
                return found
    if "conv_norm_out.weight" in header.tensors:
        return _network(header, "", "diffusers", "conv_in.weight", _DIFFUSERS_TEXT)
    return None


def _controlnet(header: Header) -> _Unet | None:
    for prefix in ("control_model.", ""):
        if f"{prefix}input_hint_block.0.weight" in header.tensors:
            return _network(header, prefix, "original", "input_blocks.0.0.weight", _ORIGINAL_TEXT)
    if "controlnet_cond_embedding.conv_in.weight" in header.tensors:
        return _network(header, "", "diffusers", "conv_in.weight", _DIFFUSERS_TEXT)
    return None


# Where text enters first: at the first, second or third resolution, depending on the version.
_ORIGINAL_TEXT = tuple(f"input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in (1, 2, 4, 5, 7, 8))
_DIFFUSERS_TEXT = tuple(f"down_blocks.{block}.attentions.0.transformer_blocks.0.attn2.to_k.weight" for block in (0, 1, 2))


def _network(header: Header, prefix: str, layout: str, first: str, text: tuple[str, ...]) -> _Unet | None:
    in_channels = dimension(header, prefix + first, 1)
    if in_channels is None:
        return None
    widths = (dimension(header, prefix + name, 1) for name in text)
    return _Unet(prefix, layout, prefix + first, in_channels, next((width for width in widths if width), None))
