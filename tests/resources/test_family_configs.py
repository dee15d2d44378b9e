"""The configurations of Stable Diffusion 1.x build the published networks, and its tokenizer gives the published tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

import sfumato_resources
from sfumato_resources.configs.clip_vocabulary import byte_symbols, vocabulary

SD1 = sfumato_resources.family_configs("sd1")


def test_an_unknown_family_has_none() -> None:
    with pytest.raises(KeyError, match="sd99"):
        sfumato_resources.family_configs("sd99")


def test_an_unknown_companion_is_told() -> None:
    with pytest.raises(KeyError, match="no embedded loras called 'x'"):
        sfumato_resources.embedded_file("loras", "x")


def test_every_embedded_companion_is_there() -> None:
    for kind in ("controlnet", "loras", "embeddings", "upscale_models"):
        for name, path in sfumato_resources.embedded_files(kind).items():
            assert path.exists() and sfumato_resources.embedded_file(kind, name.removesuffix(".safetensors")) == path


def test_the_vocabulary_follows_from_the_merges() -> None:
    head, *merges = (SD1 / "tokenizer" / "merges.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    known = json.loads((SD1 / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert head.startswith("#version") and len(merges) == 48_894 and len(known) == 49_408
    assert vocabulary(merges) == known and len(set(byte_symbols())) == 256
    assert (known["a</w>"], known["photo</w>"], known["cat</w>"], known["<|endoftext|>"]) == (320, 1125, 2368, 49_407)


@pytest.mark.slow
def test_the_tokenizer_gives_the_published_tokens() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(SD1 / "tokenizer")
    assert tokenizer("a photo of a Cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.model_max_length == 77 and tokenizer.pad_token_id == 49407


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "name", "parameters"),
    [
        ("unet", "UNet2DConditionModel", 859_520_964),
        ("vae", "AutoencoderKL", 83_653_863),
        ("controlnet", "ControlNetModel", 361_279_120),
        ("text_encoder", "CLIPTextModel", 123_060_480),
    ],
)
def test_the_networks_have_the_published_size(part: str, name: str, parameters: int) -> None:
    import diffusers
    import torch
    import transformers

    model: Any
    with torch.device("meta"):
        if part == "text_encoder":
            model = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(SD1 / part))
        else:
            kind = getattr(diffusers, name)
            model = kind.from_config(kind.load_config(SD1 / part))
    assert sum(each.numel() for each in model.parameters()) == parameters
