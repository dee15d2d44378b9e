"""From a request to a graph: pure functions, built of nodes that ComfyUI has too wherever it has them."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.errors import PluginError
from sfumato.graph import Graph, GraphBuilder, Link
from sfumato.request import ControlUse, GenerateRequest

SAVE = "SaveImage"
_REPAINTED = 8
"""A latent pixel: so far beyond the selection is repainted, and thrown away, because one that is only half repainted shows both."""
_CONTINUED, _EMPTIED = "patch", "harmonic"
"""How the picture is continued into a border, and how a hole is filled that is painted at full strength."""
_SOFT = 4
"""Width in pixels of the inward edge with which what was painted is laid in."""
_CONTEXT, _BORDER_CONTEXT = 0.25, 0.5
"""How much around a selection the model sees, as a share of its longer side; what goes on in a border is told by what is further in."""
_REFINED = 0.4
"""Strength of the second pass, which gives detail to what was enlarged."""


@dataclass(frozen=True)
class _Parts:
    """What the parts of a recipe hand to each other."""

    model: Link
    clip: Link
    vae: Link


@dataclass(frozen=True)
class _Crop:
    """What the model sees of the picture where a mask says what may change: `mask` is the selection, `hole` what is repainted."""

    picture: Link
    mask: Link
    hole: Link
    stitch: Link


def graph_for(request: GenerateRequest) -> Graph:
    """The built-in recipe: text, picture, mask and border to picture, with LoRAs, controls and an upscaler.

    The graph ends in one SaveImage; `picture_of` gives the link to the picture itself.
    """
    build = GraphBuilder()
    parts = _models(build, request)
    positive = build.node("CLIPTextEncode", None, "Prompt", text=request.prompt, clip=parts.clip, dialect="sfumato").out()
    negative = build.node("CLIPTextEncode", None, "Negative prompt", text=request.negative, clip=parts.clip, dialect="sfumato").out()
    source, mask = _source(build, request)
    context = _BORDER_CONTEXT if request.outpaint else _CONTEXT
    crop = None if source is None or mask is None else _cropped(build, parts, source, mask, context)
    for control in request.controls:
        positive, negative = _controlled(build, request, control, crop, positive, negative)
    if source is None:
        latent = build.node("EmptyLatentImage", width=request.width, height=request.height, batch_size=request.batch).out()
    else:
        latent, positive, negative = _encoded(build, request, parts, source, crop, positive, negative)
    sampled = build.node(
        "KSampler",
        model=parts.model,
        seed=request.seed,
        steps=request.steps,
        cfg=request.cfg,
        sampler_name=request.sampler,
        scheduler=request.schedule,
        positive=positive,
        negative=negative,
        latent_image=latent,
        denoise=1.0 if source is None else request.strength,
    )
    picture = build.node("VAEDecode", samples=sampled.out(), vae=parts.vae).out()
    if crop is not None:
        picture = _laid_in(build, request, parts, crop, picture, positive, negative)
    picture = _upscaled(build, request, picture)
    build.node(SAVE, images=picture, filename_prefix="sfumato")
    return build.graph()


def saver_of(graph: Graph) -> str:
    """The last node of a graph that saves a picture. Raises PluginError if a plugin's recipe has none."""
    savers = [key for key, node in graph.nodes.items() if node.type == SAVE and isinstance(node.inputs.get("images"), Link)]
    if not savers:
        raise PluginError("the recipe's graph saves no picture", "recipe_for", f"It has to end in the node {SAVE}.")
    return savers[-1]


def picture_of(graph: Graph) -> Link:
    """The link to the picture that the last SaveImage of a graph saves. Raises PluginError if a plugin's recipe has none."""
    link: Link = graph.nodes[saver_of(graph)].inputs["images"]
    return link


def _models(build: GraphBuilder, request: GenerateRequest) -> _Parts:
    loaded = build.node("CheckpointLoaderSimple", ckpt_name=request.model)
    model, clip, vae = loaded.out(0), loaded.out(1), loaded.out(2)
    if request.vae:
        vae = build.node("VAELoader", vae_name=request.vae).out()
    if request.clip_skip > 1:
        clip = build.node("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-request.clip_skip).out()
    for lora in request.loras:
        with_lora = build.node(
            "LoraLoader", model=model, clip=clip, lora_name=lora.name, strength_model=lora.weight, strength_clip=lora.weight
        )
        model, clip = with_lora.out(0), with_lora.out(1)
    return _Parts(model, clip, vae)


def _controlled(
    build: GraphBuilder, request: GenerateRequest, control: ControlUse, crop: _Crop | None, positive: Link, negative: Link
) -> tuple[Link, Link]:
    hint = build.node("LoadImage", image=control.image).out()
    hint = build.node("ImageScale", image=hint, upscale_method="lanczos", width=request.width, height=request.height, crop="center").out()
    if crop is not None:
        hint = build.node("InpaintCropAlike", image=hint, stitch=crop.stitch).out()
    if not control.prepared:
        hint = build.node("Preprocess", image=hint, preprocessor=control.kind).out()
    net = build.node("ControlNetLoader", control_net_name=control.model or control.kind).out()
    applied = build.node(
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=net,
        image=hint,
        strength=control.strength,
        start_percent=control.start,
        end_percent=control.end,
    )
    return applied.out(0), applied.out(1)


def _source(build: GraphBuilder, request: GenerateRequest) -> tuple[Link | None, Link | None]:
    """(picture, mask) to start from, at the size of the request."""
    if request.image is None:
        return None, None
    loaded = build.node("LoadImage", image=request.image)
    picture, mask = loaded.out(0), None
    inner = (
        request.width - request.outpaint.left - request.outpaint.right,
        request.height - request.outpaint.top - request.outpaint.bottom,
    )
    picture = build.node("ImageScale", image=picture, upscale_method="lanczos", width=inner[0], height=inner[1], crop="disabled").out()
    if request.mask is not None:
        mask = build.node("LoadImageMask", image=request.mask, channel="red").out()
    if request.outpaint:
        border = request.outpaint
        padded = build.node(
            "ImagePadForOutpaint", image=picture, left=border.left, top=border.top, right=border.right, bottom=border.bottom, feathering=0
        )
        picture, border_mask = padded.out(0), padded.out(1)
        picture = build.node("InpaintFill", image=picture, mask=border_mask, fill=_CONTINUED).out()
        mask = border_mask if mask is None else _joined(build, border_mask, mask, inner, (border.left, border.top))
    return picture, mask


def _joined(build: GraphBuilder, border: Link, mask: Link, size: tuple[int, int], place: tuple[int, int]) -> Link:
    """The mask of a border with that of the picture inside it, which has this (width, height) and lies at `place`."""
    tones = build.node("MaskToImage", mask=mask).out()
    tones = build.node("ImageScale", image=tones, upscale_method="bilinear", width=size[0], height=size[1], crop="disabled").out()
    inside = build.node("ImageToMask", image=tones, channel="red").out()
    return build.node("MaskComposite", destination=border, source=inside, x=place[0], y=place[1], operation="add").out()


def _cropped(build: GraphBuilder, parts: _Parts, source: Link, mask: Link, context: float) -> _Crop:
    """The selection with its surroundings, at the size the model works at."""
    crop = build.node("InpaintCrop", image=source, mask=mask, model=parts.model, context=context)
    hole = build.node("MaskEdge", mask=crop.out(1), grow=_REPAINTED, feather=0, edge="outward", fill_holes=False).out()
    return _Crop(crop.out(0), crop.out(1), hole, crop.out(2))


def _encoded(
    build: GraphBuilder, request: GenerateRequest, parts: _Parts, source: Link, crop: _Crop | None, positive: Link, negative: Link
) -> tuple[Link, Link, Link]:
    """(latent, positive, negative) for a picture to start from."""
    if crop is not None:
        source = crop.picture
        if request.strength >= 1:
            source = build.node("InpaintFill", image=source, mask=crop.mask, fill=_EMPTIED).out()
    if crop is not None and request.inpainting_model:
        node = build.node(
            "InpaintModelConditioning", positive=positive, negative=negative, vae=parts.vae, pixels=source, mask=crop.hole, noise_mask=True
        )
        latent, positive, negative = node.out(2), node.out(0), node.out(1)
    else:
        latent = build.node("VAEEncode", pixels=source, vae=parts.vae).out()
        if crop is not None:
            latent = build.node("SetLatentNoiseMask", samples=latent, mask=crop.hole).out()
    if request.batch > 1:
        latent = build.node("RepeatLatentBatch", samples=latent, amount=request.batch).out()
    return latent, positive, negative


def _laid_in(
    build: GraphBuilder, request: GenerateRequest, parts: _Parts, crop: _Crop, picture: Link, positive: Link, negative: Link
) -> Link:
    """What was painted, in its place in the whole picture: colours and seam fitted, not one byte changed outside the selection."""
    original, mask, hole, stitch = crop.picture, crop.mask, crop.hole, crop.stitch
    if not request.inpainting_model:  # its conditioning holds the first pass's picture, which has another size
        second = build.node(
            "InpaintSecondPass",
            stitch=stitch,
            image=picture,
            model=parts.model,
            vae=parts.vae,
            positive=positive,
            negative=negative,
            seed=request.seed,
            steps=request.steps,
            cfg=request.cfg,
            sampler_name=request.sampler,
            scheduler=request.schedule,
            denoise=min(_REFINED, request.strength),
        )
        picture, original, mask, stitch = second.out(0), second.out(1), second.out(2), second.out(3)
        hole = build.node("MaskEdge", mask=mask, grow=_REPAINTED, feather=0, edge="outward", fill_holes=False).out()
    picture = build.node("ColorMatchMasked", image=picture, reference=original, mask=hole, strength=1.0).out()
    picture = build.node("SeamFit", image=picture, original=original, mask=mask, strength=1.0, width=3).out()
    return build.node("InpaintStitch", stitch=stitch, image=picture, feather=_SOFT, edge="inward", protect=True).out()


def _upscaled(build: GraphBuilder, request: GenerateRequest, picture: Link) -> Link:
    if request.upscale is None:
        return picture
    loaded = build.node("UpscaleModelLoader", model_name=request.upscale.model).out()
    picture = build.node("ImageUpscaleWithModel", upscale_model=loaded, image=picture).out()
    if request.upscale.factor:
        size = (round(request.width * request.upscale.factor), round(request.height * request.upscale.factor))
        picture = build.node("ImageScale", image=picture, upscale_method="lanczos", width=size[0], height=size[1], crop="disabled").out()
    return picture
