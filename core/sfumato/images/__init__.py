"""Reading and writing pictures and what they carry: PNG, JPEG and WebP, to and from NumPy, within bounds."""

from __future__ import annotations

from sfumato.images.metadata import PictureMetadata, read_metadata
from sfumato.images.parameters import Parameters, format_parameters, parse_parameters
from sfumato.images.reading import read_image
from sfumato.images.writing import Written, encode_image, format_of, to_8_bits, write_image

__all__ = [
    "Parameters",
    "PictureMetadata",
    "Written",
    "encode_image",
    "format_of",
    "format_parameters",
    "parse_parameters",
    "read_image",
    "read_metadata",
    "to_8_bits",
    "write_image",
]
