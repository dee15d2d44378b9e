"""Whole runs: what the sockets carry, and that the pictures show what the words say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.engine.noise import initial_noise
from sfumato.engine.resize import resized
from sfumato.engine.sampling import LEFTOVER, GuiderChoice, NoNoise, RandomNoise, Sampled, sample
from sfumato.engine.schedules import for_denoise
from sfumato.errors import BadValueError
from sfumato.progress import Progress


def test_random_noise_is_drawn_from_the_seed_and_the_places_of_the_batch() -> None:
    latent = {"samples": torch.zeros(3, 4, 8, 8)}
    assert torch.equal(RandomNoise(7).generate(latent), initial_noise((3, 4, 8, 8), 7))
    one = RandomNoise(7).generate({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [2]})
    assert torch.equal(one[0], initial_noise((3, 4, 8, 8), 7)[2])


def test_no_noise_is_zeros() -> None:
    noise = NoNoise().generate({"samples": torch.ones(2, 4, 8, 8, dtype=torch.float16)})
    assert (noise.shape, noise.dtype, float(noise.abs().max())) == ((2, 4, 8, 8), torch.float32, 0.0)


def test_options_of_a_sampler_reach_it(studio: Any) -> None:
    plain = studio.sample(sampler="euler", levels=studio.sigmas(3)).samples
    assert torch.equal(studio.sample(sampler="euler_ancestral", levels=studio.sigmas(3), eta=0.0).samples, plain)
    assert not torch.equal(studio.sample(sampler="euler_ancestral", levels=studio.sigmas(3), eta=1.0).samples, plain)
    with pytest.raises(BadValueError, match="no option 'speed'"):
        studio.sample(sampler="euler", speed=3)


@pytest.mark.parametrize(("kind", "name", "near"), [("sampler", "eular", "euler"), ("schedule", "karas", "karras")])
def test_an_unknown_name_is_told_with_those_like_it(services: Any, kind: str, name: str, near: str) -> None:
    with pytest.raises(BadValueError, match=near):
        getattr(services, kind)(name)


def test_what_came_out_keeps_what_else_the_latent_held(studio: Any) -> None:
    latent = {**studio.blank(), "batch_index": [0], "noise_mask": torch.ones(1, 8, 8), LEFTOVER: torch.ones(1)}
    done = Sampled(torch.ones(1), torch.zeros(1), None)  # type: ignore[arg-type]
    assert done.into(latent) == {"samples": done.samples, "batch_index": [0], "noise_mask": latent["noise_mask"]}
    assert done.denoised_into(latent)["samples"] is done.denoised
    assert replace(done, leftover=done.samples).into({})[LEFTOVER] is done.samples
    assert LEFTOVER in latent


def test_the_last_estimate_is_the_result_of_a_finished_run_and_clean_in_an_unfinished_one(studio: Any) -> None:
    levels = studio.sigmas(6)
    whole, part = studio.sample(levels=levels, cfg=1.0), studio.sample(levels=levels[:4], cfg=1.0)
    assert (whole.samples - whole.denoised).abs().max() < 1e-4
    assert part.samples.std() > 1.5 * part.denoised.std()
    assert part.denoised.std() < 1.3 * whole.samples.std()


def test_a_guider_without_a_negative_is_not_guided(studio: Any) -> None:
    guider = GuiderChoice(studio.model, studio.text("a house"))
    found = sample(
        studio.services, guider, RandomNoise(5), studio.services.sampler("euler"), studio.sigmas(2), studio.blank(), Progress.silent()
    )
    assert torch.equal(found.samples, studio.sample(levels=studio.sigmas(2), positive=studio.text("a house"), cfg=1.0).samples)


def test_the_calls_of_the_network_are_counted(studio: Any) -> None:
    assert studio.sample(levels=studio.sigmas(4)).calls.network == 4
    assert studio.sample(levels=studio.sigmas(4), sampler="heun").calls.network == 7


def test_a_latent_in_half_precision_is_taken(studio: Any) -> None:
    before = studio.sample().samples
    half = studio.sample({"samples": before.half()}, levels=studio.sigmas(6)[4:]).samples
    full = studio.sample({"samples": before.half().float()}, levels=studio.sigmas(6)[4:]).samples
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


# --- What it looks like --------------------------------------------------------------------------------------------------

WORDS = "a red circle on a blue background"


class Painter:
    """Pictures in the model's own size, with the settings it is usually run with."""

    def __init__(self, studio: Any, seen: Any) -> None:
        self.studio, self.seen, self.side = studio, seen, seen.side // 8

    def sample(self, words: str, latent: Any = None, *, strength: float = 1.0, batch: int = 4, seed: int = 1) -> Tensor:
        levels = for_denoise("karras", self.studio.model.sampling, 15, strength)
        blank = self.studio.blank(batch, self.side)
        positive, negative = self.studio.text(words), self.studio.text("")
        found: Tensor = self.studio.sample(
            blank if latent is None else {"samples": latent},
            sampler="dpmpp_2m", levels=levels, seed=seed, cfg=4.0, positive=positive, negative=negative,
        ).samples  # fmt: skip
        return found

    def shows(self, samples: Tensor, kind: str, colour: str, ground: str) -> int:
        """How many of the pictures show a thing of this kind and colour on this ground."""
        pictures = self.seen.pictures(self.studio.decode(samples))
        return sum(bool(self.seen.find(picture, kind, colour)) and self.seen.ground(picture) == ground for picture in pictures)


@pytest.fixture(scope="module")
def painter(studio: Any, seen: Any) -> Painter:
    return Painter(studio, seen)


@pytest.mark.slow
def test_a_red_circle_on_a_blue_background_is_one(painter: Painter) -> None:
    assert painter.shows(painter.sample(WORDS), "circle", "red", "blue") >= 3


@pytest.mark.slow
def test_picture_to_picture_stays_near_its_source_as_far_as_the_strength_says(painter: Painter) -> None:
    source = painter.sample(WORDS)
    distances = {}
    for strength in (0.3, 0.7, 1.0):
        changed = painter.sample("a green tree on a white background", source, strength=strength, seed=3)
        distances[strength] = float((changed - source).abs().mean())
        if strength == 0.3:
            assert painter.shows(changed, "circle", "red", "blue") >= 3
        if strength == 1.0:
            assert painter.shows(changed, "tree", "green", "white") >= 3
    assert distances[0.3] < 0.5 * distances[1.0]
    assert distances[0.3] < distances[0.7] < distances[1.0]


@pytest.mark.slow
def test_at_full_strength_hardly_anything_of_the_source_is_left(painter: Painter) -> None:
    words = "a green tree on a white background"
    free = painter.sample(words, seed=3)
    over = painter.sample(words, painter.sample(WORDS), strength=1.0, seed=3)
    # Full noise on a picture is not quite pure noise (the table ends at 14.6): the picture is nearly the same, not to the bit.
    assert (over - free).abs().mean() < 0.35 * free.std()


@pytest.mark.slow
def test_a_latent_enlarged_and_painted_over_shows_the_same_thing_in_a_larger_picture(painter: Painter) -> None:
    small = painter.sample(WORDS, batch=3)
    side = small.shape[-1] * 3 // 2
    large = painter.sample(WORDS, resized(small, side, side, "bislerp"), strength=0.5, seed=4)
    assert painter.studio.decode(large).shape[1:3] == (side * 8, side * 8)
    assert painter.shows(large, "circle", "red", "blue") >= 2


@pytest.mark.slow
def test_a_hole_is_filled_with_what_the_words_say_and_the_rest_stays(painter: Painter) -> None:
    scene = "a red circle on the left on a white background"
    source = painter.sample(scene, batch=4)
    mask = torch.zeros(1, painter.side * 8, painter.side * 8)
    mask[..., painter.side * 4 :] = 1
    levels = for_denoise("karras", painter.studio.model.sampling, 15, 1.0)
    words = "a red circle on the left and a blue star on the right on a white background"
    filled = painter.studio.sample(
        {"samples": source, "noise_mask": mask},
        sampler="dpmpp_2m", levels=levels, seed=9, cfg=4.0, positive=painter.studio.text(words), negative=painter.studio.text(""),
    ).samples  # fmt: skip
    assert torch.equal(filled[..., : painter.side // 2], source[..., : painter.side // 2])
    pictures = painter.seen.pictures(painter.studio.decode(filled))
    stars = sum(bool(painter.seen.find(picture, "star", "blue", (0.5, 0, 1, 1))) for picture in pictures)
    circles = sum(bool(painter.seen.find(picture, "circle", "red", (0, 0, 0.5, 1))) for picture in pictures)
    assert stars >= 3
    assert circles >= 3
