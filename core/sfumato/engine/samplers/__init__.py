"""The samplers by name: functions `(denoise, x, sigmas, ctx) -> x` that walk from noise to a picture.

`denoise(x, sigma)` has one meaning whatever the model predicts, and the probability-flow ODE is ``dx/dsigma = (x - denoised) /
sigma`` for every family: every sampler works with every schedule and every model. Names are ComfyUI's.
"""

from __future__ import annotations

from sfumato.engine.samplers.context import Denoise, SamplerContext, SimpleContext
from sfumato.engine.samplers.ddim import ddim
from sfumato.engine.samplers.ddpm import ddpm
from sfumato.engine.samplers.deis import deis
from sfumato.engine.samplers.dpm_2 import dpm_2, dpm_2_ancestral
from sfumato.engine.samplers.dpmpp_2m import dpmpp_2m
from sfumato.engine.samplers.dpmpp_2m_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun
from sfumato.engine.samplers.dpmpp_2s_ancestral import dpmpp_2s_ancestral
from sfumato.engine.samplers.dpmpp_3m_sde import dpmpp_3m_sde
from sfumato.engine.samplers.dpmpp_sde import dpmpp_sde
from sfumato.engine.samplers.euler import euler, euler_ancestral
from sfumato.engine.samplers.heun import heun
from sfumato.engine.samplers.ipndm import ipndm
from sfumato.engine.samplers.lcm import lcm
from sfumato.engine.samplers.lms import lms
from sfumato.engine.samplers.plms import plms
from sfumato.engine.samplers.res_multistep import res_multistep, res_multistep_ancestral
from sfumato.engine.samplers.spec import Sampler, SamplerSpec
from sfumato.engine.samplers.uni_pc import uni_pc, uni_pc_bh2
from sfumato.errors import BadValueError

__all__ = ["SAMPLERS", "Denoise", "Sampler", "SamplerContext", "SamplerSpec", "SimpleContext", "sampler"]

SAMPLERS: dict[str, SamplerSpec] = {
    spec.name: spec
    for spec in (
        SamplerSpec.of(euler, order=1, one_step=True),
        SamplerSpec.of(euler_ancestral, order=1, one_step=True, deterministic=False),
        SamplerSpec.of(heun, order=2, one_step=True),
        SamplerSpec.of(dpm_2, order=2, one_step=True),
        SamplerSpec.of(dpm_2_ancestral, order=2, one_step=True, deterministic=False),
        SamplerSpec.of(lms, order=4),
        SamplerSpec.of(ddim, order=1, one_step=True),
        SamplerSpec.of(ddpm, order=1, one_step=True, deterministic=False),
        SamplerSpec.of(plms, order=4),
        SamplerSpec.of(dpmpp_2m, order=2),
        SamplerSpec.of(dpmpp_2m_sde, order=2, deterministic=False),
        SamplerSpec.of(dpmpp_2m_sde_heun, order=2, deterministic=False),
        SamplerSpec.of(dpmpp_3m_sde, order=2, deterministic=False),
        SamplerSpec.of(dpmpp_sde, order=2, one_step=True, deterministic=False),
        SamplerSpec.of(dpmpp_2s_ancestral, order=2, one_step=True, deterministic=False),
        SamplerSpec.of(uni_pc, order=4),
        SamplerSpec.of(uni_pc_bh2, order=4),
        SamplerSpec.of(ipndm, order=4),
        SamplerSpec.of(deis, order=3),
        SamplerSpec.of(lcm, order=0, one_step=True, deterministic=False),
        SamplerSpec.of(res_multistep, order=2),
        SamplerSpec.of(res_multistep_ancestral, order=2, deterministic=False),
    )
}


def sampler(name: str) -> SamplerSpec:
    """The sampler of a name; raises BadValueError with the names there are."""
    if name not in SAMPLERS:
        raise BadValueError(f"there is no sampler {name!r}", "sampler", f"Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]
