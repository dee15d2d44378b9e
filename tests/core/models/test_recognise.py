"""Model files are told from names and shapes, which are facts of the published models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sfumato_resources
from sfumato.errors import ModelFileError
from sfumato.models import Header, Recognised, TensorInfo, recognise, recognise_file
from sfumato.models.recognise import sd1

Shapes = Mapping[str, tuple[int, ...]]


def header(shapes: Shapes, metadata: Mapping[str, str] | None = None) -> Header:
    return Header(Path("model"), {name: TensorInfo("F16", shape, (0, 0)) for name, shape in shapes.items()}, metadata or {}, 0)


def unet(width: int, channels: int = 4, prefix: str = "model.diffusion_model.", block: int = 1) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}input_blocks.0.0.weight": (320, channels, 3, 3),
        f"{prefix}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight": (320, width),
        f"{prefix}out.2.weight": (4, 320, 3, 3),
    }


WHOLE = {
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.decoder.conv_out.weight": (3, 128, 3, 3),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
}
DIFFUSERS_UNET = {
    "conv_in.weight": (320, 4, 3, 3),
    "conv_norm_out.weight": (320,),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
}
DIFFUSERS_CONTROL = {
    "conv_in.weight": (320, 4, 3, 3),
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
}

FILES: dict[str, tuple[Shapes, str, str, dict[str, Any]]] = {
    "SD 1.5": (
        unet(768) | WHOLE,
        "checkpoint",
        "sd1",
        {"in_channels": 4, "has_vae": True, "has_text_encoder": True, "prediction": "epsilon"},
    ),
    "SD 1.5 inpainting": (unet(768, 9) | WHOLE, "checkpoint", "sd1", {"in_channels": 9}),
    "InstructPix2Pix": (unet(768, 8) | WHOLE, "checkpoint", "sd1", {"in_channels": 8}),
    "SD 2.1": (unet(1024) | WHOLE, "checkpoint", "sd2", {"prediction": "unknown"}),
    "SDXL": (unet(2048, block=4) | {"conditioner.embedders.0.x": (1,)}, "checkpoint", "sdxl", {"prediction": "epsilon"}),
    "SDXL v": (unet(2048, block=4) | WHOLE | {"v_pred": ()}, "checkpoint", "sdxl", {"prediction": "v_prediction"}),
    "SDXL refiner": (unet(1280, block=4) | WHOLE, "checkpoint", "sdxl_refiner", {}),
    "bare UNet": (unet(768, prefix=""), "unet", "sd1", {"layout": "original", "has_vae": False}),
    "UNet only, with prefix": (unet(768), "unet", "sd1", {}),
    "diffusers UNet": (DIFFUSERS_UNET, "unet", "sd1", {"layout": "diffusers", "context_dim": 768}),
    "SD 3": ({"model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.weight": (9, 9)} | WHOLE, "checkpoint", "sd3", {}),
    "Flux": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "unet", "flux", {"prediction": "flow"}),
    "ControlNet": (
        unet(768, prefix="control_model.") | {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
        "controlnet",
        "sd1",
        {},
    ),
    "diffusers ControlNet": (DIFFUSERS_CONTROL, "controlnet", "sdxl", {"layout": "diffusers"}),
    "VAE": ({"decoder.conv_in.weight": (512, 4, 3, 3), "decoder.conv_out.weight": (3, 128, 3, 3)}, "vae", "", {"latent_channels": 4}),
    "Flux VAE": (
        {"decoder.conv_in.weight": (512, 16, 3, 3), "decoder.conv_out.weight": (3, 128, 3, 3)},
        "vae",
        "",
        {"latent_channels": 16},
    ),
    "CLIP": ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, "clip", "", {"width": 768}),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "clip", "", {"layout": "t5"}),
    "kohya LoRA": (
        {
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (16, 768),
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (16, 768),
        },
        "lora",
        "sd1",
        {"dialect": "kohya", "rank": 16, "has_text_encoder": True},
    ),
    "XL LoRA": ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 1280)}, "lora", "sdxl", {"dialect": "kohya"}),
    "diffusers LoRA": (
        {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 1024)},
        "lora",
        "sd2",
        {"dialect": "diffusers", "rank": 4, "has_text_encoder": False},
    ),
    "old diffusers LoRA": (
        {"unet.mid_block.attentions.0.processor.to_q_lora.down.weight": (4, 1280)},
        "lora",
        "",
        {"dialect": "diffusers"},
    ),
    "peft LoRA": ({"base_model.model.mid_block.to_k.lora_A.weight": (4, 320)}, "lora", "", {"dialect": "peft", "rank": 4}),
    "Flux LoRA": (
        {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (16, 3072)},
        "lora",
        "flux",
        {"dialect": "diffusers"},
    ),
    "LoHa": ({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": (1280, 8)}, "lora", "", {"dialect": "lycoris"}),
    "LoKr": ({"lora_unet_mid_block_attentions_0_proj_in.lokr_w1": (8, 8)}, "lora", "", {"dialect": "lycoris"}),
    "A1111 embedding": ({"emb_params": (6, 768)}, "embedding", "sd1", {"tokens": 6, "width": 768}),
    "diffusers embedding": ({"<cat-toy>": (1024,)}, "embedding", "sd2", {"tokens": 1}),
    "XL embedding": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "embedding", "sdxl", {}),
    "ESRGAN": (
        {"model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3), "model.0.weight": (64, 3, 3, 3)},
        "upscaler",
        "",
        {"architecture": "ESRGAN"},
    ),
    "Real-ESRGAN": ({"body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, "upscaler", "", {}),
    "nothing known": ({"a.b": (3, 3, 3), "c": (1, 2, 3)}, "unknown", "", {}),
    "nothing at all": ({}, "unknown", "", {}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_from_its_names_and_shapes(name: str) -> None:
    shapes, kind, family, details = FILES[name]
    found = recognise(header(shapes))
    assert (found.kind, found.family) == (kind, family), found
    assert found.details.items() >= details.items() and found.reason


def test_the_reason_is_in_words() -> None:
    assert recognise(header(unet(768) | WHOLE)).reason == (
        "model.diffusion_model.input_blocks.0.0.weight is [320, 4, 3, 3]: a UNet with 4 input channels; "
        "text of the width 768 enters it: a UNet of Stable Diffusion 1.x"
    )


def test_the_family_function_answers_for_its_family_only() -> None:
    answers = {name: sd1(header(shapes)) for name, (shapes, *_) in FILES.items()}
    mine = {name for name, answer in answers.items() if answer is not None}
    assert mine == {
        name for name, (_, kind, family, _) in FILES.items() if family == "sd1" and kind in ("checkpoint", "unet", "controlnet")
    }


def test_families_of_plugins_are_asked_first() -> None:
    mine = Recognised("checkpoint", "mine", "because")
    assert recognise(header(unet(768)), [lambda _: None, lambda _: mine]) is mine


def test_metadata_may_tell_the_prediction_and_the_base_of_a_lora() -> None:
    said = recognise(header(unet(1024) | WHOLE, {"modelspec.prediction_type": "v"}))
    assert said.details["prediction"] == "v_prediction"
    lora = recognise(header({"lora_unet_x.lora_down.weight": (4, 320)}, {"ss_base_model_version": "sdxl_base_v1-0"}))
    assert lora.family == "sdxl" and "sdxl_base_v1-0" in lora.reason


def test_the_embedded_model_is_recognised() -> None:
    found = recognise_file(sfumato_resources.embedded_model())
    assert (found.kind, found.family) == ("checkpoint", "sd1") and found.details["in_channels"] == 4
    assert recognise_file(sfumato_resources.embedded_model() / "unet").kind == "unet"
    assert recognise_file(sfumato_resources.embedded_model() / "vae").details["latent_channels"] == 4
    assert recognise_file(sfumato_resources.embedded_model() / "text_encoder").kind == "clip"


@pytest.mark.parametrize("part", ["unet", "controlnet"])
def test_configurations_of_sd1_are_of_sd1(part: str) -> None:
    found = recognise_file(sfumato_resources.family_configs("sd1") / part)
    assert (found.kind, found.family, found.details["context_dim"]) == (part, "sd1", 768)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "3", "\0", '{"a":' * 1000, '{"unet": ["diffusers", "x"]}', '{"a": "' + "x" * (5 << 20) + '"}']
)
def test_a_damaged_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ModelFileError) as caught:
        recognise_file(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model in diffusers layout"):
        recognise_file(tmp_path)


json_values = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
keys = st.sampled_from(
    ["_class_name", "unet", "vae", "text_encoder", "cross_attention_dim", "in_channels", "architectures", "latent_channels"]
)


@settings(max_examples=50, deadline=None)
@given(config=st.dictionaries(keys, json_values | st.just("UNet2DConditionModel")))
def test_no_configuration_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    folder = tmp_path_factory.getbasetemp() / "config"
    for path in (folder / "config.json", folder / "whole" / "model_index.json", folder / "whole" / "unet" / "config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    for each in (folder, folder / "whole"):
        try:
            assert recognise_file(each).reason
        except ModelFileError as error:
            assert str(error)


names = st.sampled_from([name for shapes, *_ in FILES.values() for name in shapes]) | st.text(max_size=8)


@settings(max_examples=150, deadline=None)
@given(shapes=st.dictionaries(names, st.lists(st.integers(0, 2048), max_size=4).map(tuple), max_size=6))
def test_no_names_and_shapes_are_too_strange(shapes: Shapes) -> None:
    found = recognise(header(shapes))
    assert found.reason and (found.kind == "lora" or sd1(header(shapes)) in (None, found))
