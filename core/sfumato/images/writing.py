"""Writing PNG, WebP and JPEG from NumPy with what they carry; the ending of the name chooses the format."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import BadValueError, SaveError
from sfumato.files import FileSystem, write_atomically
from sfumato.images.containers import Format
from sfumato.images.metadata import MOST_EXIF_IN_JPEG, PictureMetadata, exif_block, png_texts

FORMATS: Mapping[str, Format] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
"""Ending -> format."""

_LARGEST_SIDE: Mapping[Format, int] = {"png": 2**31 - 1, "webp": 16383, "jpeg": 65500}


@dataclass(frozen=True)
class Encoded:
    """A picture as the bytes of a file; `warnings` say what could not be kept."""

    data: bytes
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Written:
    """A picture that is on the disk; `warnings` say what could not be kept."""

    path: Path
    size: int
    warnings: tuple[str, ...] = ()


def format_of(path: Path) -> Format:
    """The format that the ending of a name chooses. Raises BadValueError."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise BadValueError(f"{path.suffix or 'no ending'!r} is no known picture format", str(path), f"Use {', '.join(FORMATS)}.") from None


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """clip(round(255 x), 0, 255), halves to even, worked in float32; what is no number becomes 0. Any shape; uint8 passes as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    scaled: NDArray[np.float32] = np.nan_to_num(pixels.astype(np.float32), nan=0.0).clip(0, 1) * np.float32(255)
    return np.rint(scaled).astype(np.uint8)


def write_image(
    path: Path,
    pixels: NDArray[Any],
    metadata: PictureMetadata | None = None,
    *,
    lossless: bool = True,
    quality: int = 95,
    make_parents: bool = False,
    file_system: FileSystem | None = None,
) -> Written:
    """Write one picture, whole or not at all. `pixels`: float [H,W,3|4] or [H,W] in 0..1 (see `to_8_bits`), or uint8.

    PNG is always lossless; WebP is unless `lossless` is False; JPEG never is (`quality` 1 to 100, colour at full resolution, transparency
    laid on white). Raises BadValueError for an unknown ending or shape, SaveError for what cannot be written.
    """
    encoded = encode_image(pixels, format_of(path), metadata, lossless=lossless, quality=quality, where=str(path))
    size = write_atomically(path, encoded.data, make_parents=make_parents, file_system=file_system)
    return Written(path, size, encoded.warnings)


def encode_image(
    pixels: NDArray[Any],
    format: Format,
    metadata: PictureMetadata | None = None,
    *,
    lossless: bool = True,
    quality: int = 95,
    where: str = "",
) -> Encoded:
    """As `write_image`, to bytes in memory."""
    from PIL import Image

    _check(pixels, format, where)
    metadata, warnings = metadata or PictureMetadata(), []
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        warnings.append(f"{int((~np.isfinite(pixels)).sum()):,} values of the picture are no finite numbers")
    samples = to_8_bits(pixels)
    if format == "jpeg" and samples.shape[2:] == (4,):
        samples = _on_white(samples)
        warnings.append("JPEG keeps no transparency: the picture was laid on white")
    options, more = _options(format, metadata, lossless, quality)
    stream = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(samples)).save(stream, format, **options)
    except (OSError, ValueError, MemoryError) as error:
        raise SaveError(f"the picture could not be encoded as {format} ({error})", where, "Save it as .png.") from error
    return Encoded(stream.getvalue(), (*warnings, *more))


def _check(pixels: NDArray[Any], format: Format, where: str) -> None:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or 0 in pixels.shape:
        raise BadValueError(f"an array of the shape {list(pixels.shape)} is no picture", where, "It has to be [H,W], [H,W,3] or [H,W,4].")
    check_size((pixels.shape[1], pixels.shape[0]), format, where)


def check_size(size: tuple[int, int], format: Format, where: str = "") -> None:
    """Raises SaveError if a picture of `size` (width, height) is too large for the format."""
    if max(size) > _LARGEST_SIDE[format]:
        words = f"{size[0]} x {size[1]} pixels are too many for {format} (at most {_LARGEST_SIDE[format]} a side)"
        raise SaveError(words, where, "Save it as .png.")


def _options(format: Format, metadata: PictureMetadata, lossless: bool, quality: int) -> tuple[dict[str, Any], list[str]]:
    if format == "png":
        from PIL.PngImagePlugin import PngInfo

        texts, warnings = png_texts(metadata)
        info = PngInfo()
        for name, text in texts.items():
            if text.isascii():
                info.add_text(name, text)
            else:
                info.add_itxt(name, text)
        return {"pnginfo": info, "compress_level": 4}, warnings
    block, warnings = exif_block(metadata, most_bytes=MOST_EXIF_IN_JPEG if format == "jpeg" else None)
    options: dict[str, Any] = {"exif": block} if block else {}
    if format == "jpeg":
        return options | {"quality": quality, "subsampling": 0, "optimize": True}, warnings
    # `exact` keeps the colours under full transparency, so that what is lossless is so for every channel.
    return options | {"lossless": lossless, "quality": 80 if lossless else quality, "exact": True}, warnings


def _on_white(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = samples[..., 3:].astype(np.float32) / 255
    return np.rint(samples[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
