"""Reading PNG, JPEG and WebP to NumPy: upright, with alpha where there is any, 16 bits kept, within a budget that is checked first."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import ImageFileError
from sfumato.images.containers import Container, jpeg_segments, open_container
from sfumato.images.exif import read_exif

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Pixels: TypeAlias = NDArray[np.float32]
"""float32 [H,W,3] or, with alpha (not premultiplied), [H,W,4], 0..1, sRGB."""

MOST_PIXELS = 256_000_000
"""Default budget: pixels of up to three channels; a fourth counts a third more."""

MOST_FILE_BYTES = 1 << 30


def read_image(source: Path | bytes, *, most_pixels: int = MOST_PIXELS) -> Pixels:
    """The first frame of a picture, turned upright by its EXIF orientation.

    `source` is a file or the bytes of one. Grey becomes three equal channels, palettes and CMYK become RGB, 8 bits become
    v/255 and 16 bits v/65535. The type is told by the content, not by the ending. Raises ImageFileError for what is no PNG,
    JPEG or WebP, for truncated and damaged pictures, and for those over the budget, before any memory is taken for pixels.
    """
    where, data = read_source(source)
    container = open_container(data, where)
    _check_budget(container, where, most_pixels)
    if not container.is_whole:
        raise ImageFileError("the picture is cut off", where, "Get the file again.")
    try:
        pixels = _decode(data, container)
    except Exception as error:  # decoders fail in many ways, and each means the same to whoever gave the file
        raise ImageFileError(f"the picture cannot be decoded: {error}", where, "It is truncated or damaged: get the file again.") from error
    return _upright(pixels, read_exif(container.exif).orientation)


def read_source(source: Path | bytes) -> tuple[str, bytes]:
    """(name for messages, content) of a file, or of bytes themselves. Raises ImageFileError."""
    if isinstance(source, bytes):
        return "", source
    where = str(source)
    try:
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):  # a device may never end
            raise ImageFileError("this is no ordinary file", where, "Name a picture file.")
        if facts.st_size > MOST_FILE_BYTES:
            raise ImageFileError(f"more than {MOST_FILE_BYTES:,} bytes", where, "Scale the picture down elsewhere.")
        return where, source.read_bytes()
    except FileNotFoundError as error:
        raise ImageFileError("there is no such file", where) from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ImageFileError(f"the file cannot be read ({reason})", where) from error


def _check_budget(container: Container, where: str, most_pixels: int) -> None:
    width, height = container.size
    if not width or not height:
        raise ImageFileError(f"the picture says that it is {width} x {height} pixels large", where, "Get the file again.")
    if width * height * max(container.channels, 3) > 3 * most_pixels:
        what = f"{width} x {height} pixels of {container.channels} channels are more than the budget of {most_pixels:,} pixels"
        raise ImageFileError(what, where, "Scale the picture down elsewhere.")


def _decode(data: bytes, container: Container) -> Pixels:
    # The format's own decoder, not Image.open: no other of Pillow's forty formats is ever tried, and the budget is ours.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    kinds: dict[str, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
    stream = io.BytesIO(_without_exif(data) if container.format == "jpeg" else data)
    with kinds[container.format](stream) as picture:
        if picture.size != container.size:
            raise ValueError("its headers contradict each other")
        picture.load()
        if container.format == "png" and container.bits == 16:
            return _decode_16_bits(data, picture)
        has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        converted = picture.convert("RGBA" if has_alpha else "RGB")
        return np.asarray(converted, np.float32) / np.float32(255)


def _decode_16_bits(data: bytes, picture: ImageFile) -> Pixels:
    """Pillow has read the picture without complaint, but keeps only eight bits of colours."""
    if picture.mode in ("I;16", "I"):
        grey = np.asarray(picture, np.float32) / np.float32(65535)
        pixels = np.repeat(grey[..., None], 3, axis=2)
    else:
        import cv2

        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.dtype != np.uint16 or stored.ndim != 3:
            raise ValueError("its 16-bit samples cannot be read")
        order = [2, 1, 0, 3][: stored.shape[2]]
        pixels = stored[..., order].astype(np.float32) / np.float32(65535)
    key = picture.info.get("transparency")
    if key is None or pixels.shape[2] == 4:
        return pixels
    is_key = np.all(np.rint(pixels * 65535) == np.asarray(key, np.float32), axis=2)
    return np.dstack([pixels, np.where(is_key, np.float32(0), np.float32(1))])


def _without_exif(data: bytes) -> bytes:
    """The JPEG without its EXIF block, which the decoder would look into, and complain about, for the resolution."""
    kept, at = [], 0
    for marker, start, end in jpeg_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            kept.append(data[at : start - 4])
            at = end
    return b"".join([*kept, data[at:]])


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """EXIF orientation: 1 upright, 2 mirrored, 3 turned by 180°, 4 flipped, 5 transposed, 6 and 8 turned by 90°, 7 transversed."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
