"""Nodes that denoise: the simple ones, and the ones in parts (noise, guider, sampler, sigmas)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Conditioning, Guider, Latent, Model, Noise, Range, Sampler, Seed, Sigmas, Strength

if TYPE_CHECKING:
    import torch

    from sfumato.engine import sampling, schedules
else:
    torch = lazy_module("torch")
    sampling = lazy_module("sfumato.engine.sampling")
    schedules = lazy_module("sfumato.engine.schedules")

Steps = Annotated[int, Range(1, 10000)]
Cfg = Annotated[float, Range(0.0, 100.0, 0.1, round=0.01)]
SamplerName = Annotated[str, Choice("samplers")]
ScheduleName = Annotated[str, Choice("schedules")]
Factor = Annotated[float, Range(0.0, 100.0, 0.01)]
Switch = Literal["enable", "disable"]


def _sigmas(ctx: NodeContext, model: Any, sampler: str, schedule: str, steps: int, denoise: float) -> torch.Tensor:
    """The levels of a run: what KSampler works out from its settings."""
    discard = schedules.discard_penultimate(sampler)
    return schedules.for_denoise(ctx.services.schedule(schedule), model.sampling, steps, denoise, discard_penultimate=discard)


@node("KSampler", category="sampling", outputs=("LATENT",))
def ksampler(
    ctx: NodeContext,
    model: Model,
    seed: Seed = 0,
    steps: Steps = 20,
    cfg: Cfg = 8.0,
    sampler_name: SamplerName = "euler",
    scheduler: ScheduleName = "simple",
    *,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: Strength = 1.0,
) -> tuple[Latent]:
    """Denoise a latent. `denoise` below 1 keeps part of it: the strength of picture to picture."""
    sigmas = _sigmas(ctx, model, sampler_name, scheduler, steps, denoise)
    guider = sampling.GuiderChoice(model, positive, negative, cfg)
    done = sampling.sample(
        ctx.services, guider, sampling.RandomNoise(seed), ctx.services.sampler(sampler_name), sigmas, latent_image, ctx.progress
    )
    return (done.into(latent_image),)


@node("KSamplerAdvanced", category="sampling", display="KSampler (Advanced)", outputs=("LATENT",))
def ksampler_advanced(
    ctx: NodeContext,
    model: Model,
    add_noise: Switch = "enable",
    noise_seed: Seed = 0,
    steps: Steps = 20,
    cfg: Cfg = 8.0,
    sampler_name: SamplerName = "euler",
    scheduler: ScheduleName = "simple",
    *,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: Annotated[int, Range(0, 10000)] = 0,
    end_at_step: Annotated[int, Range(0, 10000)] = 10000,
    return_with_leftover_noise: Switch = "disable",
) -> tuple[Latent]:
    """Denoise from one step of a schedule to another. A run in parts gives what a whole run gives, where the sampler keeps nothing
    from step to step."""
    sigmas = _sigmas(ctx, model, sampler_name, scheduler, steps, 1.0)
    if end_at_step < len(sigmas) - 1:
        sigmas = sigmas[: end_at_step + 1].clone()
        if return_with_leftover_noise == "disable":
            sigmas[-1] = 0.0
    sigmas = sigmas[start_at_step:] if start_at_step < len(sigmas) - 1 else sigmas[:0]
    noise = sampling.RandomNoise(noise_seed) if add_noise == "enable" else sampling.NoNoise(noise_seed)
    guider = sampling.GuiderChoice(model, positive, negative, cfg)
    done = sampling.sample(ctx.services, guider, noise, ctx.services.sampler(sampler_name), sigmas, latent_image, ctx.progress)
    return (done.into(latent_image),)


@node("SamplerCustom", category="sampling/custom_sampling", outputs=("output", "denoised_output"))
def sampler_custom(
    ctx: NodeContext,
    model: Model,
    add_noise: bool = True,
    noise_seed: Seed = 0,
    cfg: Cfg = 8.0,
    *,
    positive: Conditioning,
    negative: Conditioning,
    sampler: Sampler,
    sigmas: Sigmas,
    latent_image: Latent,
) -> tuple[Latent, Latent]:
    """Denoise along sigmas of your own. The second output is the last clean estimate, also where noise is left over."""
    noise = sampling.RandomNoise(noise_seed) if add_noise else sampling.NoNoise(noise_seed)
    done = sampling.sample(
        ctx.services, sampling.GuiderChoice(model, positive, negative, cfg), noise, sampler, sigmas, latent_image, ctx.progress
    )
    return done.into(latent_image), done.denoised_into(latent_image)


@node("SamplerCustomAdvanced", category="sampling/custom_sampling", outputs=("output", "denoised_output"))
def sampler_custom_advanced(
    ctx: NodeContext, noise: Noise, guider: Guider, sampler: Sampler, sigmas: Sigmas, latent_image: Latent
) -> tuple[Latent, Latent]:
    """Denoise with every part chosen by itself."""
    done = sampling.sample(ctx.services, guider, noise, sampler, sigmas, latent_image, ctx.progress)
    return done.into(latent_image), done.denoised_into(latent_image)


@node("RandomNoise", category="sampling/custom_sampling/noise", outputs=("NOISE",))
def random_noise(noise_seed: Seed = 0) -> tuple[Noise]:
    """Noise from a seed; the same on every device."""
    return (sampling.RandomNoise(noise_seed),)


@node("DisableNoise", category="sampling/custom_sampling/noise", outputs=("NOISE",))
def disable_noise() -> tuple[Noise]:
    """No noise: the latent carries its own."""
    return (sampling.NoNoise(),)


@node("BasicGuider", category="sampling/custom_sampling/guiders", outputs=("GUIDER",))
def basic_guider(model: Model, conditioning: Conditioning) -> tuple[Guider]:
    """Guided by one text alone, without a negative."""
    return (sampling.GuiderChoice(model, conditioning),)


@node("CFGGuider", category="sampling/custom_sampling/guiders", outputs=("GUIDER",))
def cfg_guider(model: Model, positive: Conditioning, negative: Conditioning, cfg: Cfg = 8.0) -> tuple[Guider]:
    """Classifier-free guidance between two texts."""
    return (sampling.GuiderChoice(model, positive, negative, cfg),)


@node("KSamplerSelect", category="sampling/custom_sampling/samplers", outputs=("SAMPLER",))
def ksampler_select(ctx: NodeContext, sampler_name: SamplerName) -> tuple[Sampler]:
    """A sampler by name, with its usual options."""
    return (ctx.services.sampler(sampler_name),)


def _with(ctx: NodeContext, name: str, **options: Any) -> tuple[Sampler]:
    return (replace(ctx.services.sampler(name), options=options),)


@node("SamplerEulerAncestral", category="sampling/custom_sampling/samplers", outputs=("SAMPLER",))
def sampler_euler_ancestral(ctx: NodeContext, eta: Factor = 1.0, s_noise: Factor = 1.0) -> tuple[Sampler]:
    """Euler with noise added at each step."""
    return _with(ctx, "euler_ancestral", eta=eta, s_noise=s_noise)


@node("SamplerDPMPP_2M_SDE", category="sampling/custom_sampling/samplers", outputs=("SAMPLER",))
def sampler_dpmpp_2m_sde(
    ctx: NodeContext,
    solver_type: Literal["midpoint", "heun"] = "midpoint",
    eta: Factor = 1.0,
    s_noise: Factor = 1.0,
    noise_device: Literal["gpu", "cpu"] = "gpu",
) -> tuple[Sampler]:
    """DPM-Solver++(2M) SDE. Noise is always drawn on the CPU, so that a seed means one picture; `noise_device` changes nothing."""
    return _with(ctx, "dpmpp_2m_sde", solver_type=solver_type, eta=eta, s_noise=s_noise)


@node("SamplerDPMPP_SDE", category="sampling/custom_sampling/samplers", outputs=("SAMPLER",))
def sampler_dpmpp_sde(
    ctx: NodeContext, eta: Factor = 1.0, s_noise: Factor = 1.0, r: Factor = 0.5, noise_device: Literal["gpu", "cpu"] = "gpu"
) -> tuple[Sampler]:
    """DPM-Solver++ SDE. Noise is always drawn on the CPU; `noise_device` changes nothing."""
    return _with(ctx, "dpmpp_sde", eta=eta, s_noise=s_noise, r=r)


@node("SamplerDPMPP_3M_SDE", category="sampling/custom_sampling/samplers", outputs=("SAMPLER",))
def sampler_dpmpp_3m_sde(
    ctx: NodeContext, eta: Factor = 1.0, s_noise: Factor = 1.0, noise_device: Literal["gpu", "cpu"] = "gpu"
) -> tuple[Sampler]:
    """DPM-Solver++(3M) SDE. Noise is always drawn on the CPU; `noise_device` changes nothing."""
    return _with(ctx, "dpmpp_3m_sde", eta=eta, s_noise=s_noise)
