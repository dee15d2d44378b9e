"""What ships as the embedded model: layout, formats, sizes, the card, and that the pictures show what the captions say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from sfumato_resources import embedded_file, embedded_files, embedded_model
from sfumato_resources.world.benchmark import held_out, score

NETWORKS = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "controlnet-canny/diffusion_pytorch_model.safetensors",
)
ONE_FILE_LIMIT = 1_000_000
WHOLE_LIMIT = 32_000_000


def files(pattern: str = "*") -> list[Path]:
    return [path for path in embedded_model().rglob(pattern) if path.is_file()]


def test_all_of_it_fits_into_the_wheel() -> None:
    assert sum(path.stat().st_size for path in files()) <= WHOLE_LIMIT


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_stored_in_float16(name: str) -> None:
    with safe_open(embedded_model() / name, "pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    assert kinds <= {"F16", "I64"}


def test_the_folder_is_a_stable_diffusion_pipeline_of_safe_files() -> None:
    index = json.loads((embedded_model() / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {path.suffix for path in files()} <= {".json", ".safetensors", ".txt"}
    scheduler = json.loads((embedded_model() / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert scheduler["prediction_type"] == "v_prediction"
    vae = json.loads((embedded_model() / "vae" / "config.json").read_text(encoding="utf-8"))
    assert vae["scaling_factor"] == 0.18215


def test_no_file_remembers_where_it_was_made() -> None:
    for path in files("*.json"):
        assert "_name_or_path" not in path.read_text(encoding="utf-8"), path


def test_one_lora_has_diffusers_keys_and_one_has_kohyas() -> None:
    dotted, neon = load_file(embedded_file("loras", "dotted")), load_file(embedded_file("loras", "neon"))
    assert all(key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in dotted)
    modules = {key.split(".", 1)[0] for key in neon}
    assert {key.split(".", 1)[1] for key in neon} == {"lora_down.weight", "lora_up.weight", "alpha"}
    assert len(neon) == 3 * len(modules)
    assert any(module.startswith("lora_te_text_model_encoder_layers_") for module in modules)
    assert any(module.startswith("lora_unet_down_blocks_") for module in modules)
    assert all(torch.isfinite(tensor).all() for tensor in (*dotted.values(), *neon.values()))


def test_the_embedding_holds_vectors_as_wide_as_the_text_encoder() -> None:
    tensors = load_file(embedded_file("embeddings", "nightstar"))
    config = json.loads((embedded_model() / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    assert set(tensors) == {"emb_params"}
    assert tensors["emb_params"].shape[1] == config["hidden_size"]


def test_small_companions_are_small() -> None:
    for kind in ("loras", "embeddings", "upscale_models"):
        assert embedded_files(kind)
        for path in embedded_files(kind).values():
            assert path.stat().st_size < ONE_FILE_LIMIT


def test_spandrel_knows_the_upscaler() -> None:
    from spandrel import ModelLoader  # takes seconds to import

    model = ModelLoader().load_from_file(embedded_file("upscale_models", "compact-2x"))
    assert model.scale == 2
    assert model(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 32, 48)


def test_the_card_says_licence_and_figures() -> None:
    card = json.loads((embedded_model() / "model_card.json").read_text(encoding="utf-8"))
    assert card["licence"] == "Apache-2.0"
    held = card["figures"]["held out"]["overall"]
    assert held["pictures"] == 200
    assert all(0 <= held[name] <= 1 for name in ("kind", "colour", "ground", "position"))


@pytest.mark.slow
def test_pictures_show_what_their_captions_say() -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(embedded_model(), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    cases = held_out(16)
    pictures = pipe(
        [text for _, text in cases],
        width=128,
        height=128,
        num_inference_steps=20,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(0),
    ).images
    figures = score(pictures, [scene for scene, _ in cases]).overall
    assert figures.ground >= 0.9
    assert figures.position >= 0.8
    assert figures.colour >= 0.85
    assert figures.kind >= 0.75
