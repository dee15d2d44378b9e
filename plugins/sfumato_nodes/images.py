"""Nodes that read, save, show and change pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from sfumato.lazy import lazy_module
from sfumato.nodes import NodeContext, Result, node
from sfumato.sockets import MAX_SIZE, Choice, Image, Mask, Range, Size, Text

if TYPE_CHECKING:
    import torch

    from sfumato import saving
    from sfumato.engine import pictures, resize
else:
    torch = lazy_module("torch")
    saving = lazy_module("sfumato.saving")
    pictures = lazy_module("sfumato.engine.pictures")
    resize = lazy_module("sfumato.engine.resize")

Method = Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
Crop = Literal["disabled", "center"]
Pixels = Annotated[int, Range(0, MAX_SIZE, 1)]
Border = Annotated[int, Range(0, MAX_SIZE, 8)]


def _resized(image: torch.Tensor, width: int, height: int, method: str, crop: str = "disabled") -> torch.Tensor:
    return resize.resized(image.movedim(-1, 1), max(1, width), max(1, height), method, crop).movedim(1, -1)


@node("LoadImage", category="image", display="Load Image", outputs=("IMAGE", "MASK"))
class LoadImage:
    """A picture from the input folder (or, on the command line, from any path), and a mask where it is transparent."""

    def run(self, ctx: NodeContext, image: Annotated[str, Choice("images", upload=True)]) -> tuple[Image, Mask]:
        return pictures.load(ctx.folders, image)

    def fingerprint(self, ctx: NodeContext, image: str) -> Any:
        """The file as it is now: a picture that was replaced is loaded again."""
        return _state_of(ctx, image)


@node("LoadImageMask", category="mask", display="Load Image (as Mask)", outputs=("MASK",))
class LoadImageMask:
    """One channel of a picture as a mask. `alpha` is 1 where the picture is transparent."""

    def run(
        self,
        ctx: NodeContext,
        image: Annotated[str, Choice("images", upload=True)],
        channel: Literal["alpha", "red", "green", "blue"] = "alpha",
    ) -> tuple[Mask]:
        return (pictures.load_channel(ctx.folders, image, channel),)

    def fingerprint(self, ctx: NodeContext, image: str) -> Any:
        """As that of `LoadImage`."""
        return _state_of(ctx, image)


def _state_of(ctx: NodeContext, image: Any) -> Any:
    if not isinstance(image, str):
        return None
    stat = ctx.folders.picture(image).stat()
    return (stat.st_mtime_ns, stat.st_size)


@node("SaveImage", category="image", display="Save Image", is_output=True)
def save_image(
    ctx: NodeContext,
    images: Image,
    filename_prefix: Annotated[str, Text()] = "ComfyUI",
) -> Result:
    """Write pictures into the output folder, with all that is needed to make them again."""
    return Result(shown=saving.save_images(ctx, images.numpy(), filename_prefix, "output"))


@node("PreviewImage", category="image", display="Preview Image", is_output=True)
def preview_image(ctx: NodeContext, images: Image) -> Result:
    """Show pictures without keeping them."""
    return Result(shown=saving.save_images(ctx, images.numpy(), f"preview-{ctx.node_id}", "temp"))


@node("ImageScale", category="image/upscaling", display="Upscale Image", outputs=("IMAGE",))
def image_scale(
    image: Image, upscale_method: Method = "nearest-exact", width: Pixels = 512, height: Pixels = 512, crop: Crop = "disabled"
) -> tuple[Image]:
    """To a size; 0 for one side keeps the proportion."""
    if width == 0 and height == 0:
        return (image,)
    width = width or round(image.shape[2] * height / image.shape[1])
    height = height or round(image.shape[1] * width / image.shape[2])
    return (_resized(image, width, height, upscale_method, crop),)


@node("ImageScaleBy", category="image/upscaling", display="Upscale Image By", outputs=("IMAGE",))
def image_scale_by(
    image: Image, upscale_method: Method = "nearest-exact", scale_by: Annotated[float, Range(0.01, 8.0, 0.01)] = 1.0
) -> tuple[Image]:
    """By a factor."""
    return (_resized(image, round(image.shape[2] * scale_by), round(image.shape[1] * scale_by), upscale_method),)


@node("ImageScaleToTotalPixels", category="image/upscaling", display="Scale Image to Total Pixels", outputs=("IMAGE",))
def image_scale_to_total_pixels(
    image: Image, upscale_method: Method = "nearest-exact", megapixels: Annotated[float, Range(0.01, 16.0, 0.01)] = 1.0
) -> tuple[Image]:
    """To a number of pixels (a megapixel is 1024 x 1024), in the same proportion."""
    factor = (megapixels * 1024 * 1024 / (image.shape[1] * image.shape[2])) ** 0.5
    return (_resized(image, round(image.shape[2] * factor), round(image.shape[1] * factor), upscale_method),)


@node("ImageInvert", category="image", display="Invert Image", outputs=("IMAGE",))
def image_invert(image: Image) -> tuple[Image]:
    """The negative."""
    return (1.0 - image,)


@node("ImageCrop", category="image/transform", display="Image Crop", outputs=("IMAGE",))
def image_crop(image: Image, width: Size = 512, height: Size = 512, x: Pixels = 0, y: Pixels = 0) -> tuple[Image]:
    """A rectangle of a picture, kept inside it."""
    left, top = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return (image[:, top : top + height, left : left + width],)


@node("ImageBatch", category="image", display="Batch Images", outputs=("IMAGE",))
def image_batch(image1: Image, image2: Image) -> tuple[Image]:
    """Two batches as one; the second is brought to the size of the first."""
    if image1.shape[1:3] != image2.shape[1:3]:
        image2 = _resized(image2, image1.shape[2], image1.shape[1], "bilinear", "center")
    channels = min(image1.shape[-1], image2.shape[-1])
    return (torch.cat([image1[..., :channels], image2[..., :channels]]),)


@node("RepeatImageBatch", category="image/batch", display="Repeat Image Batch", outputs=("IMAGE",))
def repeat_image_batch(image: Image, amount: Annotated[int, Range(1, 4096)] = 1) -> tuple[Image]:
    """The same pictures several times, one batch after the other."""
    return (image.repeat(amount, 1, 1, 1),)


@node("EmptyImage", category="image", display="Empty Image", outputs=("IMAGE",))
def empty_image(
    width: Annotated[int, Range(1, MAX_SIZE)] = 512,
    height: Annotated[int, Range(1, MAX_SIZE)] = 512,
    batch_size: Annotated[int, Range(1, 4096)] = 1,
    color: Annotated[int, Range(0, 0xFFFFFF)] = 0,
) -> tuple[Image]:
    """One colour, given as 0xRRGGBB."""
    rgb = torch.tensor([(color >> shift & 0xFF) / 255 for shift in (16, 8, 0)])
    return (rgb.repeat(batch_size, height, width, 1),)


@node("ImageCompositeMasked", category="image", outputs=("IMAGE",))
def image_composite_masked(
    destination: Image, source: Image, x: Pixels = 0, y: Pixels = 0, resize_source: bool = False, mask: Mask | None = None
) -> tuple[Image]:
    """One picture laid over another where the mask is 1."""
    result = destination[..., :3].clone()
    if resize_source:
        source = _resized(source, result.shape[2], result.shape[1], "bilinear")
    height, width = min(source.shape[1], result.shape[1] - y), min(source.shape[2], result.shape[2] - x)
    if height <= 0 or width <= 0:
        return (result,)
    weight = torch.ones(1, source.shape[1], source.shape[2]) if mask is None else mask.reshape(-1, *mask.shape[-2:])
    if tuple(weight.shape[-2:]) != tuple(source.shape[1:3]):
        weight = resize.resized(weight[:, None], source.shape[2], source.shape[1], "bilinear")[:, 0]
    batch = result.shape[0]
    over = source[torch.arange(batch) % source.shape[0], :height, :width, :3]
    share = weight[torch.arange(batch) % weight.shape[0], :height, :width, None]
    behind = result[:, y : y + height, x : x + width]
    result[:, y : y + height, x : x + width] = over * share + behind * (1.0 - share)
    return (result,)


@node("ImagePadForOutpaint", category="image", display="Pad Image for Outpainting", outputs=("IMAGE", "MASK"))
def image_pad_for_outpaint(
    image: Image, left: Border = 0, top: Border = 0, right: Border = 0, bottom: Border = 0, feathering: Pixels = 40
) -> tuple[Image, Mask]:
    """Room around a picture, grey, and a mask of it; the mask fades into the picture over `feathering` pixels."""
    return pictures.padded(image, left, top, right, bottom, feathering)
