"""Files that belong to a model but are none by themselves, told from names and shapes: LoRA, embedding, VAE, text encoder, upscaler."""

from __future__ import annotations

from typing import Any

from sfumato.models.recognised import Recognised, dimension, find_name, has_prefix
from sfumato.models.safetensors_file import Header

_OF_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_OF_ENCODER = {768: "CLIP ViT-L (SD 1.x, XL, 3, Flux)", 1024: "OpenCLIP ViT-H (SD 2.x)", 1280: "OpenCLIP ViT-bigG (XL, 3)"}

_LORA_DIALECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "lycoris",
        (".hada_w1_a", ".hada_w1_b", ".lokr_w1", ".lokr_w1_a", ".lokr_w2", ".oft_blocks", ".oft_diag", ".on_input", ".diff", ".diff_b"),
    ),
    ("kohya", (".lora_down.weight", ".lora_up.weight")),
    ("diffusers", (".lora.down.weight", ".lora.up.weight", "_lora.down.weight", "_lora.up.weight")),
    ("peft", (".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight")),
)
_DOWN = (".lora_down.weight", "lora.down.weight", ".lora_A.weight", ".lora_A.default.weight", ".hada_w1_b", ".lokr_w1_b", ".lokr_w2_b")


def lora(header: Header) -> Recognised | None:
    """A LoRA or one of its relatives, with its dialect (kohya, diffusers, peft, lycoris), rank, and family by what it changes."""
    for dialect, endings in _LORA_DIALECTS:
        name = next((name for name in header.tensors if name.endswith(endings)), None)
        if name is None:
            continue
        if dialect == "peft" and name.startswith(("unet.", "text_encoder", "transformer.")):
            dialect = "diffusers"
        down = next((each for each in header.tensors if each.endswith(_DOWN)), None)
        rank = dimension(header, down, 0) if down else None
        family, why = _lora_family(header)
        details: dict[str, Any] = {"dialect": dialect, "rank": rank, "has_text_encoder": _changes_text_encoder(header)}
        rank_words = f" of rank {rank}" if rank else ""
        return Recognised("lora", family, f"it has {name}: a LoRA{rank_words} in the {dialect} dialect{why}", details)
    return None


def _lora_family(header: Header) -> tuple[str, str]:
    names = header.tensors
    if has_prefix(names, "lora_te2_", "text_encoder_2."):
        return "sdxl", ", for both text encoders of XL"
    if any("single_transformer_blocks" in name or "double_blocks" in name for name in names):
        return "flux", ", for Flux's blocks"
    if any("joint_blocks" in name for name in names):
        return "sd3", ", for Stable Diffusion 3's blocks"
    for name in names:
        if "attn2" in name and "to_k" in name and name.endswith(_DOWN):
            width = header.tensors[name].shape[-1] if len(header.tensors[name].shape) == 2 else 0
            if width in _OF_CONTEXT:
                return _OF_CONTEXT[width], f", for text of the width {width}"
    said = header.metadata.get("ss_base_model_version", "").lower()
    told = next((family for sign, family in (("sdxl", "sdxl"), ("v2", "sd2"), ("v1", "sd1"), ("flux", "flux")) if sign in said), "")
    return told, f", for {said} as its metadata say" if told else ""


def _changes_text_encoder(header: Header) -> bool:
    return has_prefix(header.tensors, "lora_te", "text_encoder", "te_", "te1_", "te2_")


def embedding(header: Header) -> Recognised | None:
    """A textual inversion: vectors of the text encoder's width [tokens, width], alone or one table for each encoder."""
    tensors = {name: info for name, info in header.tensors.items() if len(info.shape) in (1, 2) and 0 < info.shape[-1] <= 16384}
    if not tensors or len(tensors) != len(header.tensors) or len(tensors) > 4:
        return None
    is_named = bool({"emb_params", "clip_l", "clip_g"} & tensors.keys()) or has_prefix(tensors, "string_to_param")
    name, info = next(iter(tensors.items()))
    tokens = info.shape[0] if len(info.shape) == 2 else 1
    if not is_named and (len(tensors) > 1 or tokens > 128):
        return None
    family = "sdxl" if {"clip_l", "clip_g"} <= tensors.keys() else _OF_CONTEXT.get(info.shape[-1], "")
    reason = f"{name!r} is {list(info.shape)}: {tokens} vectors of the width {info.shape[-1]}"
    return Recognised("embedding", family, reason, {"tokens": tokens, "width": info.shape[-1]})


def vae(header: Header) -> Recognised | None:
    """An autoencoder for latents, of both layouts, or a tiny one (TAESD); by itself, not in a checkpoint."""
    if has_prefix(header.tensors, "model.diffusion_model."):
        return None
    for prefix in ("", "first_stage_model.", "vae."):
        channels = dimension(header, f"{prefix}decoder.conv_in.weight", 1)
        if channels and (f"{prefix}decoder.conv_out.weight" in header.tensors):
            layout = "diffusers" if has_prefix(header.tensors, f"{prefix}decoder.up_blocks.") else "original"
            use = {4: "SD 1.x, 2.x and XL", 16: "SD 3 and Flux", 32: "Flux.2"}.get(channels, "an unknown family")
            reason = f"{prefix}decoder.conv_in.weight takes {channels} channels: a VAE as {use} use"
            return Recognised("vae", "", reason, {"latent_channels": channels, "layout": layout})
    tiny = dimension(header, "decoder.layers.1.weight", 1) or dimension(header, "decoder.1.weight", 1)
    if tiny:
        return Recognised("vae", "", f"a tiny VAE for {tiny} latent channels", {"latent_channels": tiny, "layout": "tiny"})
    return None


def text_encoder(header: Header) -> Recognised | None:
    """A CLIP or T5 text encoder by itself, in transformers' names, old (`text_model.`) or new."""
    for prefix in ("text_model.", "", "transformer.text_model."):
        width = dimension(header, f"{prefix}embeddings.token_embedding.weight", 1)
        if width:
            reason = f"{prefix}embeddings.token_embedding.weight has the width {width}: {_OF_ENCODER.get(width, 'a CLIP text encoder')}"
            return Recognised("clip", "", reason, {"width": width, "layout": "diffusers"})
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    width = dimension(header, name, 1)
    return Recognised("clip", "", f"{name} has the width {width}: a T5 text encoder", {"width": width, "layout": "t5"}) if width else None


def upscaler(header: Header) -> Recognised | None:
    """An upscaler, by the signs of the architectures people use; the reader of upscaler files has the last word."""
    for ending, title in _UPSCALERS:
        name = find_name(header.tensors, ending)
        if name is not None:
            return Recognised("upscaler", "", f"it has {name}: an upscaler of the kind {title}", {"architecture": title})
    return None


_UPSCALERS = (
    ("RDB1.conv1.0.weight", "ESRGAN"),
    ("body.0.rdb1.conv1.weight", "Real-ESRGAN"),
    ("layers.0.residual_group.blocks.0.norm1.weight", "SwinIR"),
    ("layers.0.residual_group.blocks.0.conv_block.cab.0.weight", "HAT"),
    ("layers.0.blocks.0.attn.attns.0.pos.pos_proj.weight", "DAT"),
    ("block_1.c1_r.sk.weight", "SPAN"),
    ("to_feat.weight", "OmniSR or DITN"),
    ("body.0.body.0.weight", "EDSR"),
    ("recursive_layers.0.0.weight", "a recursive network"),
)
