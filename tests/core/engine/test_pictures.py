"""Pictures from disk as tensors, and room made around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.engine.pictures import load, load_channel, padded
from sfumato.errors import ImageFileError
from sfumato.run_folders import RunFolders


@pytest.fixture
def where(tmp_path: Path) -> RunFolders:
    """An input folder with one picture with alpha and one without."""
    (tmp_path / "input").mkdir()
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2], pixels[..., 3] = 255, 51, 102, 204
    pixels[0, 0] = (0, 0, 0, 0)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "input" / "alpha.png")
    Image.fromarray(pixels[..., :3], "RGB").save(tmp_path / "input" / "plain.png")
    (tmp_path / "input" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return RunFolders(tmp_path / "input", tmp_path, tmp_path)


def test_a_picture_is_a_tensor_of_0_to_1_and_its_mask_is_what_can_be_seen_through(where: RunFolders) -> None:
    image, mask = load(where, "alpha.png")
    assert (image.shape, image.dtype, mask.shape) == ((1, 2, 3, 3), torch.float32, (1, 2, 3))
    assert torch.allclose(image[0, 1, 1], torch.tensor([1.0, 0.2, 0.4]))
    assert torch.allclose(mask[0], torch.tensor([[1.0, 0.2, 0.2], [0.2, 0.2, 0.2]]))


def test_a_picture_without_alpha_cannot_be_seen_through(where: RunFolders) -> None:
    image, mask = load(where, "plain.png")
    assert image.is_contiguous()
    assert mask.abs().max() == 0


@pytest.mark.parametrize(("channel", "tone"), [("red", 1.0), ("green", 0.2), ("blue", 0.4), ("alpha", 0.2)])
def test_a_channel_is_a_mask(where: RunFolders, channel: str, tone: float) -> None:
    mask = load_channel(where, "alpha.png", channel)
    assert mask.shape == (1, 2, 3)
    assert mask[0, 1, 2] == pytest.approx(tone)


@pytest.mark.parametrize("name", ["broken.png", "missing.png"])
def test_what_cannot_be_read_is_an_error_of_the_picture(where: RunFolders, name: str) -> None:
    with pytest.raises(ImageFileError):
        load(where, name)


def test_a_border_is_grey_and_masked_and_the_picture_stays() -> None:
    image = torch.rand(2, 4, 6, 3)
    grown, mask = padded(image, 1, 2, 3, 4, 0)
    assert (grown.shape, mask.shape) == ((2, 10, 10, 3), (1, 10, 10))
    assert torch.equal(grown[:, 2:6, 1:7], image)
    assert torch.equal(mask[0, 2:6, 1:7], torch.zeros(4, 6))
    assert mask.sum() == 100 - 24
    assert grown[0, 0, 0].tolist() == [0.5] * 3


def test_a_mask_fades_into_the_picture_only_from_edges_that_grow() -> None:
    _, mask = padded(torch.zeros(1, 30, 40, 3), 8, 0, 0, 0, 10)
    row: Any = mask[0, 15, 8:]
    assert row[:10].tolist() == pytest.approx([((10 - place) / 10) ** 2 for place in range(10)])
    assert row[10:].abs().max() == 0
    assert torch.equal(mask[0, 0], mask[0, 29])


def test_a_picture_too_small_to_fade_in_is_kept_whole() -> None:
    _, mask = padded(torch.zeros(1, 16, 16, 3), 8, 8, 8, 8, 8)
    assert mask[0, 8:24, 8:24].abs().max() == 0
