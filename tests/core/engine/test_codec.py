"""Pictures to latents and back: the same numbers as the autoencoder itself, sizes, batches, tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.engine import codec
from sfumato.errors import BadValueError
from sfumato.progress import Progress, Step


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A drawing of the model's world, IMAGE [1,128,192,3]."""
    import numpy as np

    from sfumato_resources.world.benchmark import held_out
    from sfumato_resources.world.drawing import draw_array

    drawings = [torch.from_numpy(draw_array(scene, seed=1, side=128).astype(np.float32) / 255) for scene, _ in held_out(2)]
    return torch.cat([drawings[0], drawings[1][:, :64]], dim=1)[None]


def error(a: Tensor, b: Tensor) -> float:
    """The mean difference."""
    return float((a - b).abs().mean())


def test_encoding_gives_the_mean_that_the_autoencoder_itself_gives(studio: Any, picture: Tensor) -> None:
    with torch.no_grad():
        posterior = studio.module_of(studio.vae).encode((picture * 2 - 1).permute(0, 3, 1, 2).contiguous()).latent_dist
    latent = studio.encode(picture)
    assert torch.equal(latent, posterior.mean)
    assert torch.equal(latent, studio.encode(picture))


def test_the_order_of_a_picture_in_memory_changes_nothing(studio: Any, picture: Tensor) -> None:
    planes = picture.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert planes.stride() != picture.stride()
    latent = studio.encode(planes)
    assert torch.equal(latent, studio.encode(picture))
    assert torch.equal(studio.decode(latent.contiguous(memory_format=torch.channels_last)), studio.decode(latent))


def test_there_and_back_is_nearly_the_same_picture(studio: Any, picture: Tensor) -> None:
    back = studio.decode(studio.encode(picture))
    assert back.shape == picture.shape
    assert back.dtype == torch.float32
    assert back.is_contiguous()
    assert back.min() >= 0
    assert back.max() <= 1
    assert error(back, picture) < 0.02


def test_a_batch_is_its_pictures_one_by_one(studio: Any, picture: Tensor) -> None:
    pictures = torch.cat([picture, 1 - picture])
    latents = studio.encode(pictures)
    for place in range(2):
        assert torch.equal(latents[place], studio.encode(pictures[place : place + 1])[0])
        assert torch.equal(studio.decode(latents)[place], studio.decode(latents[place : place + 1])[0])


def test_odd_edges_are_cut_off_evenly(studio: Any, picture: Tensor) -> None:
    odd = picture[:, :125, :190]
    assert torch.equal(studio.encode(odd), studio.encode(odd[:, 2:122, 3:187]))


def test_alpha_is_left_out_and_grey_becomes_colour(studio: Any, picture: Tensor) -> None:
    alpha = torch.cat([picture, torch.rand(1, 128, 192, 1)], -1)
    assert torch.equal(studio.encode(alpha), studio.encode(picture))
    grey = picture[..., :1]
    assert torch.equal(studio.encode(grey), studio.encode(grey.expand(-1, -1, -1, 3)))


def test_a_picture_smaller_than_a_latent_pixel_is_refused(studio: Any) -> None:
    with pytest.raises(BadValueError, match="7x30"):
        studio.encode(torch.zeros(1, 30, 7, 3))


@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (4, 8, 8)])
def test_a_latent_of_another_model_is_refused_by_name(studio: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadValueError, match="'embedded'"):
        studio.decode(torch.zeros(shape))
    with pytest.raises(BadValueError, match="'embedded'"):
        codec.decode_tiled(studio.services, studio.vae, torch.zeros(shape), 64, 16, Progress.silent())


def test_progress_is_told_for_each_picture(studio: Any) -> None:
    told: list[Step] = []
    studio.decode(torch.zeros(2, 4, 4, 4), Progress(told.append))
    assert [(step.what, step.done, step.total) for step in told if step.what == "decoding"] == [
        ("decoding", 0, 2),
        ("decoding", 1, 2),
        ("decoding", 2, 2),
    ]


# --- In tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 24), (13, 21), (9, 30)])
def test_decoding_in_tiles_is_close_to_decoding_the_whole(studio: Any, picture: Tensor, height: int, width: int) -> None:
    latent = torch.nn.functional.interpolate(studio.encode(picture), (height, width), mode="nearest")
    whole = studio.decode(latent)
    tiled = codec.decode_tiled(studio.services, studio.vae, latent, 96, 32, Progress.silent())
    assert tiled.shape == whole.shape == (1, height * 8, width * 8, 3)
    assert tiled.is_contiguous()
    assert error(tiled, whole) < 0.03


@pytest.mark.parametrize(("height", "width"), [(128, 192), (100, 171)])
def test_encoding_in_tiles_is_close_to_encoding_the_whole(studio: Any, picture: Tensor, height: int, width: int) -> None:
    part = picture[:, :height, :width]
    whole = studio.encode(part)
    tiled = codec.encode_tiled(studio.services, studio.vae, part, 96, 32, Progress.silent())
    assert tiled.shape == whole.shape == (1, 4, height // 8, width // 8)
    assert error(tiled, whole) < 0.12 * float(whole.std())


def test_a_tile_larger_than_the_picture_is_the_whole(studio: Any, picture: Tensor) -> None:
    latent = studio.encode(picture)
    decoded = codec.decode_tiled(studio.services, studio.vae, latent, 512, 64, Progress.silent())
    encoded = codec.encode_tiled(studio.services, studio.vae, picture, 512, 64, Progress.silent())
    assert torch.allclose(decoded, studio.decode(latent), atol=1e-6)
    assert torch.allclose(encoded, latent, atol=1e-5)


def test_tiles_lie_on_the_grid_of_the_latent(studio: Any, picture: Tensor) -> None:
    seen: list[Tensor] = []
    real = studio.vae.codec

    class Watching:
        channels, downscale, blocks = real.channels, real.downscale, real.blocks

        def encode(self, module: Any, pixels: Tensor) -> Tensor:
            seen.append(pixels)
            found: Tensor = real.encode(module, pixels)
            return found

    codec.encode_tiled(studio.services, replace(studio.vae, codec=Watching()), picture, 70, 25, Progress.silent())
    pixels = picture.permute(0, 3, 1, 2) * 2 - 1
    cut = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
    blocks = {block.flatten().numpy().tobytes() for block in cut}
    assert len(seen) > 2
    for tile in seen:
        assert tile.shape[2] % 8 == tile.shape[3] % 8 == 0
        assert tile[0, :, :8, :8].flatten().numpy().tobytes() in blocks


def test_batches_go_through_tiles_too(studio: Any, picture: Tensor) -> None:
    latents = studio.encode(torch.cat([picture, 1 - picture]))
    both = codec.decode_tiled(studio.services, studio.vae, latents, 96, 32, Progress.silent())
    one = codec.decode_tiled(studio.services, studio.vae, latents[1:], 96, 32, Progress.silent())
    assert torch.equal(both[1:], one)
