"""Nodes that let a picture steer the model, and that make such pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, node
from sfumato.sockets import Choice, Conditioning, ControlNet, Image, Percent, Range, Vae

if TYPE_CHECKING:
    from sfumato_control import applying, edges, loading
else:
    applying = lazy_module("sfumato_control.applying")
    edges = lazy_module("sfumato_control.edges")
    loading = lazy_module("sfumato_control.loading")

ControlStrength = Annotated[float, Range(0.0, 10.0, 0.01)]
Threshold = Annotated[float, Range(0.01, 0.99, 0.01)]


@node("ControlNetLoader", category="loaders", display="Load ControlNet Model", outputs=("CONTROL_NET",))
def control_net_loader(ctx: NodeContext, control_net_name: Annotated[str, Choice("models:controlnet")]) -> tuple[ControlNet]:
    """A ControlNet from a file, or from a folder in diffusers layout."""
    file = ctx.services.library.find("controlnet", control_net_name)
    return (loading.load_control(file, ctx.services, ctx.progress),)


@node("ControlNetApply", category="conditioning/controlnet", display="Apply ControlNet (OLD)", outputs=("CONDITIONING",), deprecated=True)
def control_net_apply(
    conditioning: Conditioning, control_net: ControlNet, image: Image, strength: ControlStrength = 1.0
) -> tuple[Conditioning]:
    """The model follows a picture, wherever this conditioning counts; the negative one is made to follow it as well."""
    return (applying.controlled([conditioning], control_net, image, strength, on_negative=True)[0],)


@node("ControlNetApplyAdvanced", category="conditioning/controlnet", display="Apply ControlNet", outputs=("positive", "negative"))
def control_net_apply_advanced(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    image: Image,
    strength: ControlStrength = 1.0,
    start_percent: Percent = 0.0,
    end_percent: Percent = 1.0,
    *,
    vae: Vae | None = None,
) -> tuple[Conditioning, Conditioning]:
    """The model follows a picture from one part of the way to another: 0 is the first step, 1 the last. Several in a row add up.

    `vae` is for families whose ControlNets see latents; those of Stable Diffusion 1.x do not.
    """
    steered = applying.controlled([positive, negative], control_net, image, strength, start_percent, end_percent)
    return steered[0], steered[1]


@node("Canny", category="image/preprocessors", outputs=("IMAGE",))
def canny(image: Image, low_threshold: Threshold = 0.4, high_threshold: Threshold = 0.8) -> tuple[Image]:
    """The edges of a picture, white on black: steeper than `high_threshold`, or joined to such and steeper than `low_threshold`."""
    return (edges.canny(image, low_threshold=low_threshold, high_threshold=high_threshold),)


@node("Preprocess", category="image/preprocessors", outputs=("IMAGE",))
def preprocess(ctx: NodeContext, image: Image, preprocessor: Annotated[str, Choice("preprocessors")] = "canny") -> tuple[Image]:
    """A control picture made by any installed preprocessor, with its own defaults."""
    offer = ctx.services.preprocessor(preprocessor)
    ctx.progress.step(offer.name, 0, 1)
    return (offer.load()(image, **offer.options),)
