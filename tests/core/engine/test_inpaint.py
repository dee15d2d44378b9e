"""Painting inside a mask: what is kept is kept to the bit, grey tones are a schedule, inpainting networks get their channels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sfumato.engine.inpaint import DifferentialMask, MaskedDenoise, latent_mask
from sfumato.engine.loop import LoopState
from sfumato.engine.noise import initial_noise
from sfumato.models import ModelFile
from sfumato.progress import Progress


@pytest.fixture(scope="module")
def before(studio: Any) -> Tensor:
    """A finished latent to paint into."""
    samples: Tensor = studio.sample(seed=11, levels=studio.sigmas(6)).samples
    return samples


def right_half(side: int = 128) -> Tensor:
    """1 in the right half of a picture."""
    mask = torch.zeros(1, side, side)
    mask[..., side // 2 :] = 1
    return mask


# --- Masks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(32, 48), (1, 32, 48), (1, 1, 32, 48)])
def test_a_mask_comes_in_any_shape_and_size_and_serves_the_whole_batch(shape: tuple[int, ...]) -> None:
    mask = torch.zeros(shape)
    mask[..., 24:] = 1
    found = latent_mask(mask, torch.zeros(3, 4, 4, 6))
    assert found.shape == (3, 1, 4, 6)
    assert torch.equal(found[2, 0, 0], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_masks_repeat_over_a_larger_batch() -> None:
    masks = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    assert latent_mask(masks, torch.zeros(3, 4, 4, 4))[:, 0, 0, 0].tolist() == [0, 1, 0]


def test_a_mask_beyond_0_and_1_is_brought_back() -> None:
    assert latent_mask(torch.tensor([[-3.0, 7.0]]), torch.zeros(1, 4, 1, 2)).flatten().tolist() == [0, 1]


# --- Keeping -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde", "uni_pc", "lcm"])
def test_what_the_mask_does_not_cover_is_the_same_to_the_bit(studio: Any, before: Tensor, sampler: str) -> None:
    latent = {"samples": before, "noise_mask": right_half()}
    result = studio.sample(latent, sampler=sampler, levels=studio.sigmas(4, "karras"))
    for found in (result.samples, result.denoised):
        assert torch.equal(found[..., :8], before[..., :8])
        assert (found[..., 8:] - before[..., 8:]).abs().mean() > 0.1


def test_a_part_of_the_way_is_enough_to_keep(studio: Any, before: Tensor) -> None:
    result = studio.sample({"samples": before, "noise_mask": right_half()}, levels=studio.sigmas(6)[3:])
    assert torch.equal(result.samples[..., :8], before[..., :8])
    assert not torch.equal(result.samples[..., 8:], before[..., 8:])


def test_each_picture_of_a_batch_has_its_mask(studio: Any, before: Tensor) -> None:
    masks = torch.cat([right_half(), 1 - right_half()])
    result = studio.sample({"samples": before.repeat(2, 1, 1, 1), "noise_mask": masks}, levels=studio.sigmas(3)).samples
    assert torch.equal(result[0, ..., :8], before[0, ..., :8])
    assert torch.equal(result[1, ..., 8:], before[0, ..., 8:])
    assert not torch.equal(result[1, ..., :8], before[0, ..., :8])


def test_a_mask_of_ones_is_no_mask(studio: Any, before: Tensor) -> None:
    masked = studio.sample({"samples": before, "noise_mask": torch.ones(1, 128, 128)}).samples
    assert (masked - studio.sample({"samples": before}).samples).abs().max() < 1e-4


def test_a_mask_of_zeros_keeps_everything(studio: Any, before: Tensor) -> None:
    assert torch.equal(studio.sample({"samples": before, "noise_mask": torch.zeros(1, 128, 128)}).samples, before)


def test_with_noise_left_over_the_kept_part_carries_its_share_of_it(studio: Any, before: Tensor) -> None:
    levels = studio.sigmas(6)
    result = studio.sample({"samples": before, "noise_mask": right_half()}, levels=levels[:4], seed=3)
    share = levels[3] * (1 + levels[0] ** 2).sqrt() / levels[0]  # the first level is noised as the network was trained
    noisy = studio.model.latent.into_model(before) + share * initial_noise(tuple(before.shape), 3)
    assert (studio.model.latent.into_model(result.samples)[..., :8] - noisy[..., :8]).abs().max() < 1e-4


# --- Grey tones ----------------------------------------------------------------------------------------------------------


def bands(*tones: float) -> Tensor:
    """A mask in stripes of these tones, 16 latent pixels wide."""
    return torch.tensor(tones).repeat_interleave(16 // len(tones)).expand(1, 16, 16)


def test_a_grey_tone_says_when_a_place_joins_in(studio: Any) -> None:
    sampling = studio.model.sampling
    mask = DifferentialMask(bands(0.0, 0.3, 0.6, 1.0)[:, None])
    levels = torch.cat([sampling.sigma(torch.linspace(999, 0, 9)), torch.zeros(1)])
    state = LoopState(sampling, levels, torch.zeros(1), torch.zeros(1), 0)
    joined = [mask.now(state, sigma)[0, 0, 0, ::4].tolist() for sigma in levels[:-1]]
    assert joined[0] == [0, 0, 0, 1]  # times 999, 874, 749 ... 0: the share of the way that is left
    assert joined[4] == [0, 0, 1, 1]
    assert joined[6] == [0, 1, 1, 1]
    assert joined[8] == [0, 1, 1, 1]  # what is not to change never joins


def test_a_place_that_has_joined_stays(studio: Any) -> None:
    sampling = studio.model.sampling
    mask = DifferentialMask(torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)))
    levels = studio.sigmas(20, "karras")
    state = LoopState(sampling, levels, torch.zeros(1), torch.zeros(1), 0)
    seen = torch.zeros(1, 1, 16, 16)
    for sigma in levels[:-1]:
        now = mask.now(state, sigma)
        assert bool((now >= seen).all())
        seen = now
    assert seen.mean() > 0.9


@pytest.mark.parametrize(("strength", "tone"), [(1.0, 0.0), (0.5, 0.2), (0.0, 0.4)])
def test_strength_mixes_with_the_soft_mask(studio: Any, strength: float, tone: float) -> None:
    levels = studio.sigmas(4)
    state = LoopState(studio.model.sampling, levels, torch.zeros(1), torch.zeros(1), 0)
    found = DifferentialMask(torch.full((1, 1, 2, 2), 0.4), strength).now(state, levels[0])
    assert found.flatten().tolist() == pytest.approx([tone] * 4)


def test_the_lighter_the_mask_the_more_a_place_changes(studio: Any, before: Tensor) -> None:
    model = replace(studio.model, masking=DifferentialMask)
    total = torch.zeros(4)
    tones, other = [0.0, 0.1, 0.4, 1.0], studio.text("a green tree on a white background")
    for turn in range(4):  # each tone in each place once, so that the places do not count
        latent = {"samples": before, "noise_mask": bands(*tones[turn:], *tones[:turn])}
        result = studio.sample(latent, model=model, levels=studio.sigmas(12), seed=turn, positive=other).samples
        total += (result - before).abs().mean((0, 1, 2)).reshape(4, 4).mean(1).roll(turn)
    assert total[0] == 0.0
    assert total.tolist() == sorted(total.tolist())
    assert total[1] > 0.1


def test_a_soft_mask_mixes_at_every_step(studio: Any) -> None:
    masked = MaskedDenoise(torch.full((1, 1, 1, 1), 0.25))
    latent, noise = torch.full((1, 4, 1, 1), 2.0), torch.full((1, 4, 1, 1), 3.0)
    state = LoopState(studio.model.sampling, torch.tensor([4.0, 0.0]), noise, latent, 0)
    x = torch.full((1, 4, 1, 1), 8.0)
    assert masked.before_model(state, x, torch.tensor(4.0)).flatten().tolist() == [0.25 * 8 + 0.75 * (2 + 4 * 3)] * 4
    assert masked.after_model(state, x, x, torch.tensor(4.0)).flatten().tolist() == [0.25 * 8 + 0.75 * 2] * 4


# --- Networks made for it ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inpainting(studio: Any, make_studio: Callable[..., Any], embedded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A studio whose UNet takes 9 channels: random weights, in a diffusers folder, loaded through the family."""
    folder = tmp_path_factory.mktemp("models") / "inpainting"
    shutil.copytree(embedded_folder, folder, ignore=lambda path, names: {n for n in names if n == "unet" or n.startswith("controlnet")})
    config = {**json.loads((embedded_folder / "unet" / "config.json").read_text()), "in_channels": 9}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        diffusers.UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet", safe_serialization=True)
    services = studio.services
    file = ModelFile("checkpoints", "inpainting", folder)
    return make_studio(services, *services.family_of(file).load_checkpoint(file, services, Progress.silent()))


def test_an_inpainting_network_gives_the_pictures_of_diffusers_inpainting_pipeline(inpainting: Any, before: Tensor) -> None:
    studio, levels, mask = inpainting, inpainting.sigmas(3), right_half()
    unet, noise = studio.module_of(studio.model), initial_noise((1, 4, 16, 16), 5)
    assert (studio.model.network.in_channels, unet.conv_in.in_channels) == (9, 9)
    masked = before * 0.8
    more = {"concat_latent_image": masked, "concat_mask": mask}
    positive, negative = ([[t, {**o, **more}] for t, o in studio.text(words)] for words in ("a red circle", "blurry"))
    ours = studio.sample({"samples": before}, levels=levels, noise=studio.with_noise(noise), positive=positive, negative=negative)

    sampling, x = studio.model.sampling, noise * (levels[0] ** 2 + 1) ** 0.5 + studio.model.latent.into_model(before)
    prediction = "v_prediction" if sampling.prediction == "v" else "epsilon"
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction
    )
    scheduler.set_timesteps(sigmas=levels.tolist())
    scheduler.timesteps = sampling.timestep(levels[:-1]).float()
    small = torch.nn.functional.interpolate(mask[None], size=(16, 16))
    extra = torch.cat([small, studio.model.latent.into_model(masked)], 1)
    texts = torch.cat([negative[0][0], positive[0][0]])
    for time in scheduler.timesteps:  # the order of channels of StableDiffusionInpaintPipeline: latent, mask, masked picture
        given = torch.cat([scheduler.scale_model_input(x, time), extra], 1)
        with torch.no_grad():
            against, wanted = unet(torch.cat([given] * 2), time, encoder_hidden_states=texts).sample.chunk(2)
        x = scheduler.step(against + 6.0 * (wanted - against), time, x).prev_sample
    assert torch.equal(ours.samples, x / studio.model.latent.scale)


def test_an_inpainting_network_paints_freely_without_a_picture(inpainting: Any) -> None:
    result = inpainting.sample(levels=inpainting.sigmas(2), positive=inpainting.text("a house"), negative=[])
    assert bool(result.samples.isfinite().all())


def test_the_kept_area_is_exact_for_an_inpainting_network_too(inpainting: Any, before: Tensor) -> None:
    result = inpainting.sample({"samples": before, "noise_mask": right_half()}, levels=inpainting.sigmas(2))
    assert torch.equal(result.samples[..., :8], before[..., :8])
