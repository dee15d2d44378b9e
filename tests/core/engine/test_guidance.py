"""How predictions are made and combined: each way of guidance against its formula, worked out here by hand on the real network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.guidance import classifier_free, dynamically_thresholded, perturbed_attention, rescaled, skipped_layers
from sfumato.engine.noise import initial_noise
from sfumato.engine.protocols import Guided

RED, BLUE, NOTHING = "a red circle on a white background", "a blue star on a white background", ""


class OneCall:
    """One prediction at a single level: what the engine makes of it, and what the network says when asked directly."""

    def __init__(self, studio: Any, level: float = 3.0, batch: int = 1, side: int = 8) -> None:
        self.studio, self.sigma = studio, torch.tensor(level)
        self.unet = studio.module_of(studio.model)
        self.x = initial_noise((batch, 4, side, side), 3) * level
        self.batches: list[tuple[int, ...]] = []
        self.network_calls = 0

    def engine(self, cfg: float, positive: list[Any], negative: list[Any], **changes: Any) -> Tensor:
        """The engine's clean latent, in the model's scale: one Euler step down to 0 lands on it."""
        model = replace(self.studio.model, **changes)
        noise = self.studio.with_noise(self.x / self.sigma)
        hook = self.unet.register_forward_pre_hook(lambda module, given: self.batches.append(tuple(given[0].shape)))
        try:
            result = self.studio.sample(
                {"samples": torch.zeros_like(self.x)},
                model=model,
                levels=torch.stack([self.sigma, torch.zeros(())]),
                noise=noise,
                cfg=cfg,
                positive=positive,
                negative=negative,
            )
        finally:
            hook.remove()
        self.network_calls = result.calls.network
        latent: Tensor = model.latent.into_model(result.denoised)
        return latent

    def network(self, conditioning: Tensor, x: Tensor | None = None) -> Tensor:
        """The clean latent that the network means, asked with diffusers alone."""
        x, s = self.x if x is None else x, float(self.sigma)
        time = self.studio.model.sampling.timestep(self.sigma)
        with torch.no_grad():
            said = self.unet(x / math.sqrt(s * s + 1), time, encoder_hidden_states=conditioning.expand(len(x), -1, -1)).sample
        clean: Tensor = x / (s * s + 1) - said * s / math.sqrt(s * s + 1) if self.studio.model.sampling.prediction == "v" else x - s * said
        return clean


@pytest.fixture
def call(studio: Any) -> OneCall:
    return OneCall(studio)


def near(a: Tensor, b: Tensor, within: float = 2e-5) -> bool:
    """Equal up to rounding; latents here are of size 1 to 20."""
    return bool((a - b).abs().max() <= within)


def with_options(conditioning: list[Any], **options: Any) -> list[Any]:
    return [[tensor, {**known, **options}] for tensor, known in conditioning]


# --- Classifier-free guidance --------------------------------------------------------------------------------------------


def test_at_scale_1_the_negative_is_never_asked(call: OneCall) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    assert near(call.engine(1.0, red, blue), call.network(red[0][0]))
    assert call.batches == [(1, 4, 8, 8)]


def test_without_a_negative_there_is_one_call_at_any_scale(call: OneCall) -> None:
    red = call.studio.text(RED)
    assert near(call.engine(7.0, red, []), call.network(red[0][0]))
    assert call.batches == [(1, 4, 8, 8)]


@pytest.mark.parametrize("cfg", [0.0, 0.5, 2.0, 7.5])
def test_guidance_is_negative_plus_scale_times_difference_in_one_call(call: OneCall, cfg: float) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    positive, negative = call.network(red[0][0]), call.network(blue[0][0])
    assert near(call.engine(cfg, red, blue), negative + cfg * (positive - negative), 1e-4)
    assert call.batches == [(2, 4, 8, 8)]


def test_a_batch_of_pictures_and_both_texts_share_one_call(studio: Any) -> None:
    call = OneCall(studio, batch=3)
    red, blue = studio.text(RED), studio.text(BLUE)
    positive, negative = call.network(red[0][0]), call.network(blue[0][0])
    assert near(call.engine(3.0, red, blue), negative + 3.0 * (positive - negative), 1e-4)
    assert call.batches == [(6, 4, 8, 8)]


def test_each_picture_of_a_batch_may_have_a_text_of_its_own(studio: Any) -> None:
    call = OneCall(studio, batch=2)
    both = [[torch.cat([studio.text(RED)[0][0], studio.text(BLUE)[0][0]]), {}]]
    result = call.engine(1.0, both, [])
    for place, words in enumerate((RED, BLUE)):
        assert near(result[place : place + 1], call.network(studio.text(words)[0][0])[place : place + 1])


# --- Several texts -------------------------------------------------------------------------------------------------------


def test_two_texts_are_averaged(call: OneCall) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    mean = (call.network(red[0][0]) + call.network(blue[0][0])) / 2
    assert near(call.engine(1.0, [*red, *blue], []), mean)
    assert call.batches == [(2, 4, 8, 8)]


def test_texts_count_as_strongly_as_they_say(call: OneCall) -> None:
    red, blue = with_options(call.studio.text(RED), strength=3.0), call.studio.text(BLUE)
    mean = (3 * call.network(red[0][0]) + call.network(blue[0][0])) / 4
    assert near(call.engine(1.0, [*red, *blue], []), mean)


def test_the_strength_of_a_single_text_changes_nothing(call: OneCall) -> None:
    red = with_options(call.studio.text(RED), strength=0.3)
    assert near(call.engine(1.0, red, []), call.network(red[0][0]))


def test_texts_of_different_length_share_a_call_without_changing_each_other(call: OneCall) -> None:
    short, long = call.studio.text(RED), call.studio.text(", ".join([BLUE] * 15))
    assert (short[0][0].shape[1], long[0][0].shape[1]) == (77, 154)
    positive, negative = call.network(short[0][0]), call.network(long[0][0])
    assert near(call.engine(4.0, short, long), negative + 4.0 * (positive - negative), 1e-4)
    assert call.batches == [(2, 4, 8, 8)]


def test_texts_whose_lengths_have_little_in_common_are_asked_for_one_by_one(call: OneCall) -> None:
    word = call.studio.text(RED)[0][0]
    three, five = [[word.repeat(1, 3, 1), {}]], [[word.repeat(1, 5, 1), {}]]
    assert near(call.engine(1.0, [*three, *five], []), call.network(word), 1e-4)
    assert call.batches == [(1, 4, 8, 8), (1, 4, 8, 8)]


def test_masks_give_each_place_its_own_text(call: OneCall) -> None:
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    red = with_options(call.studio.text(RED), mask=left)
    blue = with_options(call.studio.text(BLUE), mask=1 - left)
    result, first, second = call.engine(1.0, [*red, *blue], []), call.network(red[0][0]), call.network(blue[0][0])
    assert near(result[..., :4], first[..., :4])
    assert near(result[..., 4:], second[..., 4:])
    assert not near(first, second, 0.1)


def test_a_grey_mask_mixes(call: OneCall) -> None:
    red = with_options(call.studio.text(RED), mask=torch.full((1, 8, 8), 0.25))
    blue = with_options(call.studio.text(BLUE), mask=torch.full((1, 8, 8), 0.5), mask_strength=1.5)
    assert near(call.engine(1.0, [*red, *blue], []), 0.25 * call.network(red[0][0]) + 0.75 * call.network(blue[0][0]))


def test_an_area_is_seen_alone_and_fades_into_what_is_around_it(studio: Any) -> None:
    call = OneCall(studio, side=16)
    red = with_options(studio.text(RED), area=(16, 8, 0, 8))
    result, whole = call.engine(1.0, [*studio.text(BLUE), *red], []), call.network(studio.text(BLUE)[0][0])
    part = call.network(red[0][0], call.x[..., 8:])
    assert sorted(call.batches) == [(1, 4, 16, 8), (1, 4, 16, 16)]
    assert near(result[..., :8], whole[..., :8])
    for column in range(8):
        weight = (column + 1) / 8  # full at the picture's own edge, fading towards the middle
        expected = (whole[..., 8 + column] + weight * part[..., column]) / (1 + weight)
        assert near(result[..., 8 + column], expected), column


def test_a_text_counts_only_in_its_part_of_the_way(studio: Any) -> None:
    early = with_options(studio.text(RED), end_percent=0.5)
    late = with_options(studio.text(BLUE), start_percent=0.5)
    levels = studio.sigmas(6, "normal")
    half = studio.model.sampling.percent_to_sigma(0.5)
    first = int((levels[:-1] >= half).sum())
    assert 0 < first < 6
    parts = studio.sample(levels=levels[: first + 1], positive=studio.text(RED), negative=[])
    then = studio.sample(
        parts.into(studio.blank()), levels=levels[first:], positive=studio.text(BLUE), negative=[], noise=studio.without_noise()
    )
    assert torch.equal(studio.sample(levels=levels, positive=[*early, *late], negative=[]).samples, then.samples)


def test_a_text_that_counts_at_no_level_gives_nothing_and_no_error(call: OneCall) -> None:
    never = with_options(call.studio.text(RED), start_percent=0.99, end_percent=0.995)
    result = call.engine(1.0, never, [])
    assert bool(result.isfinite().all())
    assert (call.batches, call.network_calls) == ([], 0)


# --- Other ways of guidance ----------------------------------------------------------------------------------------------


def guided(level: float = 2.0, scale: float = 9.0) -> Guided:
    """Made-up predictions."""
    source = torch.Generator().manual_seed(4)
    x, positive, negative = (torch.randn(2, 4, 6, 6, generator=source, dtype=torch.float64) for _ in range(3))
    return Guided(x * level, torch.tensor(level, dtype=torch.float64), positive, negative * 0.7, scale)


@pytest.mark.parametrize("multiplier", [0.0, 0.7, 1.0])
def test_rescaled_guidance_follows_the_paper(multiplier: float) -> None:
    knows = guided()
    s = 2.0
    alpha, spread = 1 / math.sqrt(1 + s * s), s / math.sqrt(1 + s * s)  # x_vp = alpha * clean + spread * noise
    x_vp = knows.x.numpy() * alpha

    def velocity(clean: Tensor) -> Any:
        noise = (x_vp - alpha * clean.numpy()) / spread
        return alpha * noise - spread * clean.numpy()

    positive, negative = velocity(knows.positive), velocity(knows.negative)
    mixed = negative + 9.0 * (positive - negative)
    wanted = np.empty_like(mixed)
    for item in range(2):  # Lin et al. 2023, equations 15 and 16
        pulled = mixed[item] * positive[item].std(ddof=1) / mixed[item].std(ddof=1)
        wanted[item] = multiplier * pulled + (1 - multiplier) * mixed[item]
    clean = alpha * x_vp - spread * wanted
    assert np.abs(rescaled(multiplier)(knows).numpy() - clean).max() < 1e-12


def test_guidance_rescaled_by_0_is_plain_guidance() -> None:
    assert near(rescaled(0.0)(guided()), classifier_free(guided()), 1e-12)


@pytest.mark.parametrize("percentile", [0.9, 1.0])
def test_dynamic_thresholding_has_the_range_of_the_lower_scale(percentile: float) -> None:
    knows = guided()
    result = dynamically_thresholded(3.0, percentile)(knows).numpy()
    for item in range(2):
        for channel in range(4):
            positive, negative = (t[item, channel].numpy().ravel() for t in (knows.positive, knows.negative))
            high, low = negative + 9.0 * (positive - negative), negative + 3.0 * (positive - negative)
            limit = np.abs(low - low.mean()).max()
            reach = max(np.quantile(np.abs(high - high.mean()), percentile), limit)
            wanted = np.clip(high - high.mean(), -reach, reach) / reach * limit + high.mean()
            assert np.abs(result[item, channel].ravel() - wanted).max() < 1e-12
            if percentile == 1.0:
                assert np.isclose(np.abs(wanted - high.mean()).max(), limit)


def test_dynamic_thresholding_of_one_colour_is_a_number() -> None:
    flat = Guided(torch.zeros(1, 4, 2, 2), torch.tensor(1.0), torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), 7.0)
    assert torch.equal(dynamically_thresholded(3.0, 1.0)(flat), torch.full((1, 4, 2, 2), 7.0))


@pytest.mark.parametrize("combine", [classifier_free, rescaled(0.7), dynamically_thresholded(3.0, 1.0)])
def test_a_way_of_combining_is_used_on_the_clean_latents_even_at_scale_1(call: OneCall, combine: Callable[[Guided], Tensor]) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    for cfg in (1.0, 5.0):
        wanted = combine(Guided(call.x, call.sigma, call.network(red[0][0]), call.network(blue[0][0]), cfg))
        assert near(call.engine(cfg, red, blue, combine=combine), wanted, 1e-4)
    assert call.batches == [(2, 4, 8, 8)] * 2


@contextmanager
def changed_outputs(layers: list[nn.Module], change: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    """While it lasts, the layers give what `change` says."""
    handles = [layer.register_forward_hook(change) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_perturbed_attention_pushes_away_from_what_is_seen_without_looking_around(call: OneCall) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    positive, negative = call.network(red[0][0]), call.network(blue[0][0])

    def through(layer: Any, given: Any, out: Any) -> Any:
        return layer.to_out[0](layer.to_v(given[0]))  # every place sees only itself

    layers = [block.attn1 for part in call.unet.mid_block.attentions for block in part.transformer_blocks]
    with changed_outputs(layers, through):
        perturbed = call.network(red[0][0])
    assert not near(positive, perturbed, 1e-3)
    wanted = negative + 4.0 * (positive - negative) + 3.0 * (positive - perturbed)
    assert near(call.engine(4.0, red, blue, after_guidance=(perturbed_attention(3.0),)), wanted, 1e-4)
    assert call.batches == [(2, 4, 8, 8), (1, 4, 8, 8)]
    assert near(call.network(red[0][0]), positive, 0.0)


def test_skip_layer_guidance_pushes_away_from_what_is_seen_without_some_blocks(call: OneCall) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    positive, negative = call.network(red[0][0]), call.network(blue[0][0])
    inner = [block for part in call.unet.down_blocks for a in getattr(part, "attentions", ()) for block in a.transformer_blocks]
    with changed_outputs([inner[1]], lambda layer, given, out: given[0]):
        skipped = call.network(red[0][0])
    assert not near(positive, skipped, 1e-3)
    wanted = negative + 4.0 * (positive - negative) + 2.0 * (positive - skipped)
    assert near(call.engine(4.0, red, blue, after_guidance=(skipped_layers(2.0, [1, 99]),)), wanted, 1e-4)
    assert near(call.network(red[0][0]), positive, 0.0)


def test_corrections_at_strength_0_cost_nothing(call: OneCall) -> None:
    red, blue = call.studio.text(RED), call.studio.text(BLUE)
    corrections = (perturbed_attention(0.0), skipped_layers(0.0, [0]))
    plain = call.engine(4.0, red, blue)
    assert near(call.engine(4.0, red, blue, after_guidance=corrections), plain, 1e-5)
    assert call.batches == [(2, 4, 8, 8)] * 2


def test_corrections_work_without_a_negative(call: OneCall) -> None:
    red = call.studio.text(RED)
    result = call.engine(1.0, red, [], after_guidance=(perturbed_attention(3.0),))
    assert not near(result, call.network(red[0][0]), 1e-3)
    assert call.batches == [(1, 4, 8, 8)] * 2


def test_the_attention_is_whole_again_after_a_failure(call: OneCall) -> None:
    red = call.studio.text(RED)
    before = call.network(red[0][0])

    def burst(*_: Any) -> None:
        raise ArithmeticError("bad block")

    network = call.studio.model.network
    for way in (network.without_self_attention(call.unet), network.without_layers(call.unet, [0, 1])):
        handle = call.unet.mid_block.register_forward_pre_hook(burst)
        with pytest.raises(ArithmeticError), way:
            call.network(red[0][0])
        handle.remove()
    assert torch.equal(call.network(red[0][0]), before)


# --- What it looks like --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_prompts_side_by_side_give_red_on_the_left_and_blue_on_the_right(studio: Any, seen: Any) -> None:
    side = seen.side // 8
    left = torch.zeros(1, seen.side, seen.side)
    left[..., : seen.side // 2] = 1
    positive = with_options(studio.text("a red circle on the left on a white background"), mask=left)
    positive += with_options(studio.text("a blue star on the right on a white background"), mask=1 - left)
    result = studio.sample(
        studio.blank(4, side), positive=positive, negative=studio.text(NOTHING), sampler="dpmpp_2m", levels=studio.sigmas(15, "karras")
    )
    right = 0
    for picture in seen.pictures(studio.decode(result.samples)):
        right += bool(seen.find(picture, "circle", "red", (0, 0, 0.5, 1)) and seen.find(picture, "star", "blue", (0.5, 0, 1, 1)))
    assert right >= 3
