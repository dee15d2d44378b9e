"""Pictures and models for the tests of the command line, small enough to be made for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sfumato_resources
from sfumato.images import read_image, to_8_bits, write_image
from sfumato.models.safetensors_file import read_header, write_safetensors

SMALL = ("--width", "64", "--height", "64", "--steps", "2", "--seed", "7")
"""The quickest picture."""


@pytest.fixture(scope="session")
def plain_pictures() -> dict[str, bytes]:
    """Files of the picture that most tests begin with, by ending: made once."""
    return {}


@pytest.fixture
def make(sfumato: Callable[..., Any], tmp_path: Path, plain_pictures: dict[str, bytes]) -> Callable[..., Path]:
    """`make("name.png", "--cfg", 3)`: a small picture of a red circle, and where it is."""

    def generate(name: str = "picture.png", *words: object) -> Path:
        path = tmp_path / name
        if not words and path.suffix in plain_pictures:
            path.write_bytes(plain_pictures[path.suffix])
            return path
        ran = sfumato("generate", "a red circle on a blue background", "-o", path, *SMALL, *words)
        assert ran.code == 0, ran.err
        if not words:
            plain_pictures[path.suffix] = path.read_bytes()
        return path

    return generate


@pytest.fixture
def noise(tmp_path: Path) -> Callable[..., Path]:
    """`noise("a.png", 64, 48)`: a picture of noise of that width and height."""

    def write(name: str, width: int = 64, height: int = 64, seed: int = 0) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return write_image(tmp_path / name, pixels).path

    return write


@pytest.fixture
def half_mask(tmp_path: Path) -> Path:
    """White on the right half of 64x64."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    return write_image(tmp_path / "mask.png", pixels).path


@pytest.fixture
def lora_file(tmp_path: Path) -> Path:
    """A LoRA of rank 2 for the embedded model, outside the model folders."""
    header = read_header(sfumato_resources.embedded_model() / "unet" / "diffusion_pytorch_model.safetensors")
    random, tensors = np.random.default_rng(0), dict[str, Any]()
    for name in [name for name in header.tensors if name.endswith("attn2.to_q.weight")][:2]:
        rows, columns = header.tensors[name].shape
        tensors[f"unet.{name.removesuffix('.weight')}.lora_A.weight"] = random.normal(size=(2, columns)).astype(np.float32)
        tensors[f"unet.{name.removesuffix('.weight')}.lora_B.weight"] = random.normal(size=(rows, 2)).astype(np.float32)
    write_safetensors(tmp_path / "style.safetensors", tensors)
    return tmp_path / "style.safetensors"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The embedded model as a model of somebody's own, outside the model folders."""
    shutil.copytree(sfumato_resources.embedded_model(), tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def pixels() -> Callable[[Path], NDArray[np.uint8]]:
    """The samples of a picture file, uint8 [H,W,3]."""
    return lambda path: to_8_bits(read_image(path))
