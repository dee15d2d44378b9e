"""What a picture carries besides its pixels: ComfyUI's `prompt` and `workflow`, A1111's `parameters`, and our own record.

PNG: text chunks under these names. WebP and JPEG: EXIF, see `sfumato.images.exif`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import ImageFileError
from sfumato.images.containers import Container, open_container
from sfumato.images.exif import DESCRIPTION, MAKE, MODEL, Exif, read_exif, write_exif
from sfumato.images.parameters import Parameters, parse_parameters
from sfumato.images.reading import read_source
from sfumato.images.text import writable

MOST_EXIF_IN_JPEG = 65533
"""A JPEG segment counts its length, and itself, in sixteen bits."""

_TAGS = {"sfumato": DESCRIPTION, "workflow": MAKE, "prompt": MODEL}
_EXTRA_TAGS = range(0x010D, 0x0105, -1)
_NAMED = ("prompt", "workflow", "sfumato")


@dataclass(frozen=True)
class PictureMetadata:
    """Empty parts are None, or the empty text.

    `prompt` is a graph in ComfyUI's API format, `workflow` one in its UI format, `record` what `sfumato replay` needs, `parameters`
    the text of `sfumato.images.parameters`. `extra` holds other parts by name: JSON values to write, and as read: texts.
    """

    prompt: Any = None
    workflow: Any = None
    parameters: str = ""
    record: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Parameters:
        """The `parameters` text, taken apart."""
        return parse_parameters(self.parameters)


def read_metadata(source: Path | bytes) -> PictureMetadata:
    """What the picture (a file, or the bytes of one) carries; empty if it carries nothing.

    Raises ImageFileError, and nothing else: for what is no PNG, JPEG or WebP, for damaged chunks, and for JSON that is broken or nested
    too deeply, naming the part. Nothing of it is run, and no pixel decoded.
    """
    where, data = read_source(source)
    container = open_container(data, where)
    texts = _texts(container)
    values = {name: _value(name, texts[name], where) for name in _NAMED if name in texts}
    extra = {name: text for name, text in texts.items() if name not in (*_NAMED, "parameters")}
    return PictureMetadata(values.get("prompt"), values.get("workflow"), texts.get("parameters", ""), values.get("sfumato"), extra)


def _texts(container: Container) -> dict[str, str]:
    """Name -> text of every part, wherever the format keeps it. A PNG may have EXIF, too; its chunks count first."""
    exif = read_exif(container.exif)
    texts = {"parameters": exif.comment} if exif.comment else {}
    for text in exif.texts.values():
        name, colon, rest = text.partition(":")
        if colon and (name in _NAMED or (name.isidentifier() and rest.lstrip()[:1] in ("{", "[", '"'))):
            texts.setdefault(name, rest)
    return {**texts, **container.texts}


def _value(name: str, text: str, where: str) -> Any:
    try:
        return read_json(text)
    except JsonFault as error:
        raise ImageFileError(f"its {name!r} part cannot be read: {error}", where, "The pixels may still be good.") from error


def png_texts(metadata: PictureMetadata) -> tuple[dict[str, str], list[str]]:
    """(chunk name -> text, warnings about parts that cannot be written). JSON is written in ASCII."""
    texts, warnings = _json_texts(metadata)
    if metadata.parameters:
        texts["parameters"] = writable(metadata.parameters)
    for name in [name for name in texts if not _is_chunk_name(name)]:
        del texts[name]
        warnings.append(f"the part {name!r} was left out: no PNG chunk can have this name")
    return texts, warnings


def exif_block(metadata: PictureMetadata, *, most_bytes: int | None = None) -> tuple[bytes, list[str]]:
    """(EXIF block, empty if there is nothing to write; warnings about parts that were left out).

    With `most_bytes`, parts are left out until the block fits: the workflow first, then other tools' parts, the prompt, the record.
    """
    texts, warnings = _json_texts(metadata)
    comment = writable(metadata.parameters)
    extras = [name for name in texts if name not in _TAGS]
    for name in [name for place, name in enumerate(extras) if place >= len(_EXTRA_TAGS) or not name.isidentifier() or not name.isascii()]:
        del texts[name]
        warnings.append(f"the part {name!r} was left out: EXIF has no place for it")
    for name in ("", "workflow", *extras, "prompt", "sfumato", "parameters"):
        if name == "parameters" and comment:
            comment = ""
            warnings.append(_too_large(name, most_bytes))
        elif texts.pop(name, None) is not None:
            warnings.append(_too_large(name, most_bytes))
        block = _block(texts, comment)
        if most_bytes is None or len(block) <= most_bytes:
            break
    return block, warnings


def _block(texts: Mapping[str, str], comment: str) -> bytes:
    if not texts and not comment:
        return b""
    spare = iter(_EXTRA_TAGS)
    tags = {_TAGS[name] if name in _TAGS else next(spare): f"{name}:{text}" for name, text in texts.items()}
    return write_exif(Exif(tags, comment))


def _too_large(name: str, most_bytes: int | None) -> str:
    return f"the part {name!r} was left out: a JPEG holds at most {most_bytes:,} bytes of metadata; PNG and WebP hold all"


def _json_texts(metadata: PictureMetadata) -> tuple[dict[str, str], list[str]]:
    values = {"prompt": metadata.prompt, "workflow": metadata.workflow, "sfumato": metadata.record, **metadata.extra}
    texts, warnings = {}, []
    for name, value in values.items():
        if value is None:
            continue
        try:
            texts[name] = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            warnings.append(f"the part {name!r} was left out: it cannot be written as JSON ({error})")
    return texts, warnings


def _is_chunk_name(name: str) -> bool:
    return name.isascii() and name.isprintable() and 1 <= len(name) <= 79 and name == name.strip()
