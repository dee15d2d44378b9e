"""Nodes that change how a MODEL is sampled: copies with other settings, never other weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import node
from sfumato.sockets import Model, Range, Strength, Text

if TYPE_CHECKING:
    from sfumato.engine import guidance, inpaint, model_sampling
else:
    guidance = lazy_module("sfumato.engine.guidance")
    inpaint = lazy_module("sfumato.engine.inpaint")
    model_sampling = lazy_module("sfumato.engine.model_sampling")

Scale = Annotated[float, Range(0.0, 100.0, 0.01)]


@node("ModelSamplingDiscrete", category="advanced/model", outputs=("MODEL",))
def model_sampling_discrete(
    model: Model, sampling: Literal["eps", "v_prediction", "lcm", "x0"] = "eps", zsnr: bool = False
) -> tuple[Model]:
    """Say what a model predicts, where its file does not. `lcm` is for models distilled to a few steps (they predict eps)."""
    prediction: Literal["eps", "v", "x0"] = "v" if sampling == "v_prediction" else "x0" if sampling == "x0" else "eps"
    return (replace(model, sampling=model_sampling.Discrete.scaled_linear(prediction, zero_terminal_snr=zsnr)),)


@node("RescaleCFG", category="advanced/model", outputs=("MODEL",))
def rescale_cfg(model: Model, multiplier: Strength = 0.7) -> tuple[Model]:
    """Guidance without over-exposure: contrast is pulled back to that of the unguided prediction."""
    return (replace(model, combine=guidance.rescaled(multiplier)),)


@node("DynamicThresholdingSimple", category="advanced/model", outputs=("MODEL",))
def dynamic_thresholding_simple(
    model: Model, mimic_scale: Scale = 7.0, threshold_percentile: Annotated[float, Range(0.0, 1.0, 0.01)] = 1.0
) -> tuple[Model]:
    """Guidance at a high scale with the contrast of a lower one."""
    return (replace(model, combine=guidance.dynamically_thresholded(mimic_scale, threshold_percentile)),)


@node("PerturbedAttentionGuidance", category="model_patches/unet", outputs=("MODEL",))
def perturbed_attention_guidance(model: Model, scale: Scale = 3.0) -> tuple[Model]:
    """Better structure: away from what the network sees when it cannot look around. Half as slow again."""
    return (replace(model, after_guidance=(*model.after_guidance, guidance.perturbed_attention(scale))),)


@node("SkipLayerGuidance", category="model_patches/unet", outputs=("MODEL",))
def skip_layer_guidance(model: Model, scale: Scale = 3.0, layers: Annotated[str, Text()] = "3") -> tuple[Model]:
    """Away from what the network sees with some of its transformer blocks left out (numbers with commas between)."""
    numbers = [int(part) for part in layers.replace(",", " ").split() if part.isdigit()]
    return (replace(model, after_guidance=(*model.after_guidance, guidance.skipped_layers(scale, numbers))),)


@node("DifferentialDiffusion", category="_for_testing", display="Differential Diffusion", outputs=("MODEL",), optional=("strength",))
def differential_diffusion(model: Model, strength: Strength = 1.0) -> tuple[Model]:
    """Grey tones of a mask become how much a place may change."""
    return (replace(model, masking=lambda mask: inpaint.DifferentialMask(mask, strength)),)
