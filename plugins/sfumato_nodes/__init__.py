"""The usual nodes, under ComfyUI's names, and the built-in samplers and schedules."""

from __future__ import annotations

from sfumato.hookspecs import hookimpl
from sfumato.nodes import NodeType, node_types
from sfumato.offers import SamplerOffer, ScheduleOffer
from sfumato_nodes import conditioning, images, latents, loaders, masks, models, sampling, schedules, vae

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m",
    "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm", "ipndm", "deis", "res_multistep",
    "res_multistep_ancestral", "ddim", "plms", "uni_pc", "uni_pc_bh2",
)  # fmt: skip
SCHEDULES = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic", "kl_optimal", "polyexponential",
    "ays_sd1", "ays_sdxl", "ays_svd",
)  # fmt: skip


@hookimpl
def register_nodes() -> list[NodeType]:
    """Every node of this package."""
    modules = (loaders, conditioning, latents, vae, sampling, schedules, models, images, masks)
    return [node_type for module in modules for node_type in node_types(module)]


@hookimpl
def register_samplers() -> list[SamplerOffer]:
    """The engine's samplers, by the names that workflows use."""
    return [SamplerOffer(name, f"sfumato.engine.samplers:SAMPLERS[{name}]") for name in SAMPLERS]


@hookimpl
def register_schedules() -> list[ScheduleOffer]:
    """The engine's schedules, by the names that workflows use."""
    return [ScheduleOffer(name, f"sfumato.engine.schedules:SCHEDULES[{name}]") for name in SCHEDULES]
