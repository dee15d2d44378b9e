"""The loop at work: the same pictures as diffusers' pipeline, runs in parts, seeds, batches, cancel, and its named points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from sfumato.engine.loop import Extension, LoopState, latent_to_rgb
from sfumato.engine.noise import initial_noise
from sfumato.engine.samplers import SAMPLERS
from sfumato.errors import BadValueError, CancelledError
from sfumato.progress import Progress, Step

PROMPT, NEGATIVE, CFG, SEED = "a red circle on a blue background", "blurry", 6.0, 5

ONE_STEP = [name for name, spec in SAMPLERS.items() if spec.one_step and spec.deterministic]


def euler(scheduler: Any, levels: Tensor, times: Tensor) -> None:
    """A scheduler with one call a step walks along our levels."""
    scheduler.sigmas, scheduler.timesteps = levels, times.float()


def heun(scheduler: Any, levels: Tensor, times: Tensor) -> None:
    """Heun's scheduler makes two calls a step, the second at the lower level; none at level 0."""
    scheduler.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    scheduler.timesteps = torch.cat([times[:1], times[1:].repeat_interleave(2)]).float()
    scheduler.prev_derivative = scheduler.dt = None


def dpm_2(scheduler: Any, levels: Tensor, times: Tensor) -> None:
    """KDPM2 makes two calls a step, the second in the geometric middle of its levels; none between the last and 0."""
    middles = torch.cat([levels[-1:], (levels[:-1].log() / 2 + levels[1:].log() / 2).exp()])
    scheduler.sigmas = torch.cat([levels[:1], levels[1:].repeat_interleave(2), levels[-1:]])
    scheduler.sigmas_interpol = torch.cat([middles[:1], middles[1:].repeat_interleave(2), middles[-1:]])
    scheduler.timesteps = torch.cat([times[:1], torch.stack([scheduler.nearest(middles[1:-1]), times[1:]], 1).flatten()]).float()
    scheduler.sample = None


def dpmpp_2m(scheduler: Any, levels: Tensor, times: Tensor) -> None:
    """The multistep scheduler remembers; its own variable is the latent scaled to unit variance."""
    scheduler.sigmas, scheduler.timesteps = levels, times
    scheduler.model_outputs, scheduler.lower_order_nums = [None, None], 0


def on_levels(kind: type, studio: Any, levels: Tensor, place: Any, **config: Any) -> Any:
    """A diffusers scheduler that walks along `levels` and tells the network the times that ours does."""
    sampling = studio.model.sampling
    prediction = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}[sampling.prediction]
    times = sampling.timestep(levels[:-1])

    class OnLevels(kind):  # type: ignore[misc]
        init_noise_sigma = 1.0
        nearest = staticmethod(sampling.timestep)

        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            self.num_inference_steps = len(levels) - 1
            self._step_index = self._begin_index = None
            place(self, levels, times)

    table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return OnLevels(**table, prediction_type=prediction, **config)


def painted(pipeline: Any, scheduler: Any, studio: Any, levels: Tensor, noise: Tensor, generator: Any = None) -> Tensor:
    """The pipeline's latent, scaled back to what a LATENT holds."""
    pipeline.scheduler = scheduler
    start = studio.model.sampling.add_noise(levels[0], noise, torch.zeros_like(noise), True)
    start = studio.model.sampling.scale_input(start, levels[0]) if isinstance(scheduler, diffusers.DPMSolverMultistepScheduler) else start
    result = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=noise.shape[-2] * 8,
        width=noise.shape[-1] * 8,
        num_inference_steps=len(levels) - 1,
        guidance_scale=CFG,
        latents=start,
        generator=generator,
        output_type="latent",
    )
    latent: Tensor = result.images / studio.model.latent.scale
    return latent


def test_euler_gives_the_bits_of_the_pipeline_in_latent_and_picture(studio: Any, pipeline: Any) -> None:
    levels, noise = studio.sigmas(6), initial_noise((1, 4, 16, 16), SEED)
    theirs = painted(pipeline, on_levels(diffusers.EulerDiscreteScheduler, studio, levels, euler), studio, levels, noise)
    ours = studio.sample(levels=levels, seed=SEED)
    assert (ours.samples - theirs).abs().max() == 0.0
    with torch.no_grad():
        picture = pipeline.vae.decode(theirs, return_dict=False)[0]
    assert (studio.decode(ours.samples) - (picture / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)).abs().max() == 0.0


def test_a_size_that_is_not_square_gives_the_bits_of_the_pipeline(studio: Any, pipeline: Any) -> None:
    levels, noise = studio.sigmas(3), initial_noise((1, 4, 12, 20), SEED)
    theirs = painted(pipeline, on_levels(diffusers.EulerDiscreteScheduler, studio, levels, euler), studio, levels, noise)
    ours = studio.sample({"samples": torch.zeros(1, 4, 12, 20)}, levels=levels, seed=SEED)
    assert torch.equal(ours.samples, theirs)


@pytest.mark.parametrize(
    ("name", "kind", "place", "config"),
    [
        ("heun", diffusers.HeunDiscreteScheduler, heun, {}),
        ("dpm_2", diffusers.KDPM2DiscreteScheduler, dpm_2, {}),
        ("euler_ancestral", diffusers.EulerAncestralDiscreteScheduler, euler, {}),
        ("dpmpp_2m", diffusers.DPMSolverMultistepScheduler, dpmpp_2m, {"final_sigmas_type": "zero"}),
    ],
)
def test_equal_samplers_give_the_pictures_of_the_pipeline(
    studio: Any, pipeline: Any, name: str, kind: type, place: Any, config: dict[str, Any]
) -> None:
    levels, noise = studio.sigmas(6, "karras"), initial_noise((1, 4, 16, 16), SEED)
    generator = torch.Generator().manual_seed(SEED + 1)  # where our own noise for the steps starts
    theirs = painted(pipeline, on_levels(kind, studio, levels, place, **config), studio, levels, noise, generator)
    ours = studio.sample(levels=levels, sampler=name, seed=SEED).samples
    assert theirs.std() > 0.3
    assert (studio.decode(ours) - studio.decode(theirs)).abs().max() <= (0.0 if name == "heun" else 1e-5)


def test_picture_to_picture_gives_the_bits_of_the_pipeline(studio: Any, pipeline: Any) -> None:
    levels = studio.sigmas(6)
    before = studio.sample(levels=levels, seed=1).samples
    scheduler = on_levels(diffusers.EulerDiscreteScheduler, studio, levels, euler)
    again = diffusers.StableDiffusionImg2ImgPipeline(**{**pipeline.components, "scheduler": scheduler}, requires_safety_checker=False)
    again.set_progress_bar_config(disable=True)
    theirs = again(
        PROMPT,
        negative_prompt=NEGATIVE,
        image=studio.model.latent.into_model(before),
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=CFG,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    ).images
    ours = studio.sample({"samples": before}, levels=levels[3:], seed=SEED)
    assert torch.equal(ours.samples, theirs / studio.model.latent.scale)
    assert not torch.equal(ours.samples, before)


@pytest.mark.parametrize("name", ONE_STEP)
def test_a_run_in_two_parts_is_the_whole_run_to_the_bit(studio: Any, name: str) -> None:
    levels, blank = studio.sigmas(6), studio.blank(1, 8)
    whole = studio.sample(blank, levels=levels, sampler=name)
    first = studio.sample(blank, levels=levels[:4], sampler=name)
    assert first.leftover is not None
    second = studio.sample(first.into(studio.blank()), levels=levels[3:], sampler=name, noise=studio.without_noise())
    assert torch.equal(second.samples, whole.samples)
    assert second.leftover is None


def test_a_latent_that_was_changed_between_two_parts_counts_and_not_what_was_left_over(studio: Any) -> None:
    levels = studio.sigmas(6)
    first = studio.sample(levels=levels[:4]).into(studio.blank())
    changed = {**first, "samples": first["samples"] * 0.5}
    forgotten = {"samples": changed["samples"]}
    results = [studio.sample(latent, levels=levels[3:], noise=studio.without_noise()).samples for latent in (changed, forgotten)]
    assert torch.equal(*results)


def test_the_same_seed_gives_the_same_picture_and_another_one_another(studio: Any) -> None:
    first, again, other = (studio.sample(seed=seed, levels=studio.sigmas(4)).samples for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.5


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "ddpm"])
def test_a_sampler_that_draws_noise_repeats_itself_whatever_the_global_generator_does(studio: Any, name: str) -> None:
    torch.manual_seed(1)
    first = studio.sample(studio.blank(1, 8), sampler=name, levels=studio.sigmas(4)).samples
    torch.manual_seed(2)
    again = studio.sample(studio.blank(1, 8), sampler=name, levels=studio.sigmas(4)).samples
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_makes_a_picture_on_the_real_network(studio: Any, name: str) -> None:
    result = studio.sample(studio.blank(1, 8), sampler=name, levels=studio.sigmas(8, "karras"), cfg=2.0)
    assert bool(result.samples.isfinite().all())
    assert 0.1 < result.samples.std() * studio.model.latent.scale < 3


def test_each_picture_of_a_batch_is_the_one_that_its_place_gives_alone(studio: Any) -> None:
    levels = studio.sigmas(3)
    batch = studio.sample(studio.blank(3), levels=levels).samples
    assert (batch[0] - batch[1]).abs().max() > 0.5
    for place in range(3):
        alone = studio.sample({**studio.blank(), "batch_index": [place]}, levels=levels).samples
        assert (alone - batch[place : place + 1]).abs().max() < 1e-3  # a batched convolution adds up in another order
    assert torch.equal(studio.sample({**studio.blank(), "batch_index": [0]}, levels=levels).samples, studio.sample(levels=levels).samples)


def test_a_batch_index_that_does_not_fit_the_batch_is_refused(studio: Any) -> None:
    with pytest.raises(BadValueError, match="batch_index"):
        studio.sample({**studio.blank(2), "batch_index": [0]})


def test_a_latent_of_another_family_is_refused_and_an_empty_one_is_taken(studio: Any) -> None:
    with pytest.raises(BadValueError, match="16 channels"):
        studio.sample({"samples": torch.ones(1, 16, 16, 16)})
    with pytest.raises(BadValueError, match="batch, channels"):
        studio.sample({"samples": torch.zeros(4, 16, 16)})
    empty = studio.sample({"samples": torch.zeros(1, 16, 16, 16)})
    assert torch.equal(empty.samples, studio.sample().samples)


def test_without_steps_the_latent_comes_back_as_it_was(studio: Any) -> None:
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    for levels in (torch.zeros(0), torch.ones(1)):
        result = studio.sample(latent, levels=levels)
        assert torch.equal(result.samples, latent["samples"])
        assert result.calls.network == 0


def test_what_comes_out_is_an_ordinary_tensor_that_anybody_may_use(studio: Any) -> None:
    result = studio.sample(levels=studio.sigmas(2))
    for tensor in (result.samples, result.denoised, studio.decode(result.samples)):
        assert not tensor.is_inference()
        assert not tensor.requires_grad
        tensor.requires_grad_().sum().backward()


class Diary(Extension):
    """Writes down which points of the loop come in which order."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.levels: list[float] = []

    def before_loop(self, state: LoopState) -> None:
        assert state.x is not None and state.noise.shape == state.latent.shape == state.x.shape
        self.pages.append("before loop")

    def before_step(self, state: LoopState) -> None:
        self.pages.append(f"step {state.step} of {state.steps}")

    def before_model(self, state: LoopState, x: Tensor, sigma: Tensor) -> Tensor:
        self.levels.append(float(sigma))
        self.pages.append("model")
        return x

    def after_model(self, state: LoopState, denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        self.pages.append("denoised")
        return denoised

    def after_step(self, state: LoopState) -> None:
        assert state.x is not None and state.denoised is not None
        self.pages.append("done")

    def after_loop(self, state: LoopState) -> None:
        self.pages.append("after loop")


def test_the_points_of_the_loop_come_in_their_order(studio: Any) -> None:
    diary, levels = Diary(), studio.sigmas(2)
    model = replace(studio.model, extensions=(lambda: diary,))
    plain = studio.sample(levels=levels, sampler="heun").samples
    assert torch.equal(studio.sample(model=model, levels=levels, sampler="heun").samples, plain)
    first = ["step 0 of 2", "model", "denoised", "model", "denoised", "done"]
    assert diary.pages == ["before loop", *first, "step 1 of 2", "model", "denoised", "done", "after loop"]
    assert diary.levels == [float(levels[0]), float(levels[1]), float(levels[1])]


def test_an_extension_lives_for_one_run(studio: Any) -> None:
    made: list[Diary] = []

    def make() -> Diary:
        made.append(Diary())
        return made[-1]

    model = replace(studio.model, extensions=(make,))
    for _ in range(2):
        studio.sample(model=model, levels=studio.sigmas(1))
    assert len(made) == 2
    assert made[0].pages == made[1].pages


def test_what_an_extension_makes_of_the_clean_latent_is_what_the_sampler_follows(studio: Any) -> None:
    class Grey(Extension):
        def after_model(self, state: LoopState, denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
            return torch.zeros_like(denoised)

    result = studio.sample(model=replace(studio.model, extensions=(Grey,)))
    assert result.samples.abs().max() < 1e-4
    assert result.denoised.abs().max() == 0.0


def test_the_last_point_of_the_loop_comes_even_when_the_run_is_cancelled(studio: Any) -> None:
    diary, progress = Diary(), Progress()

    class Stop(Extension):
        def after_step(self, state: LoopState) -> None:
            progress.cancel.set()

    with pytest.raises(CancelledError):
        studio.sample(model=replace(studio.model, extensions=(lambda: diary, Stop)), progress=progress)
    assert diary.pages[-2:] == ["done", "after loop"]


def test_progress_is_told_with_a_preview_that_is_made_only_when_looked_at(studio: Any) -> None:
    told: list[Step] = []
    studio.sample(levels=studio.sigmas(3), progress=Progress(told.append))
    steps = [(step.done, step.total) for step in told if step.what == "sampling"]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert told[-1].preview is not None
    preview = told[-1].preview()
    assert preview.shape == (1, 16, 16, 3)
    assert preview.dtype == torch.uint8
    assert preview.float().std() > 1


def test_a_preview_is_the_colour_that_the_latent_format_says(studio: Any) -> None:
    latent_format = replace(studio.model.latent, rgb=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)))
    latent = torch.tensor([1.0, -1.0, 0.0, 5.0]).reshape(1, 4, 1, 1)
    assert latent_to_rgb(latent, latent_format).flatten().tolist() == [255, 0, 127]
