"""What a file is by its content, for files that are no safetensors: each named, none opened further.

Pickled files (`.ckpt`, `.pt`, `.pth`, `.bin`) run code when they are opened, so that they are never opened here.
"""

from __future__ import annotations

from pathlib import PurePath

from sfumato.errors import ModelFileError

HEAD_BYTES = 4096
"""How much of a file's beginning is enough to tell."""

_CONVERT = "It runs code when opened, and is refused. Get the .safetensors file of the same model, or convert it elsewhere."
_AGAIN = "Get the file again."
_PICKLED_ENDINGS = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"GGUF", "a GGUF file", "GGUF is not read. Get the .safetensors file of the same model."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first, if you trust where it comes from."),
    (0, b"Rar!", "a RAR archive", "Unpack it first, if you trust where it comes from."),
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it first, if you trust where it comes from."),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first, if you trust where it comes from."),
    (0, b"\x89HDF", "an HDF5 (Keras) file", "Get the .safetensors file of the same model."),
    (0, b"\x93NUMPY", "a NumPy array", "Get the .safetensors file of the same model."),
    (0, b"\x89PNG", "a PNG picture", "Name a model instead."),
    (0, b"\xff\xd8\xff", "a JPEG picture", "Name a model instead."),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model itself", "Fetch the model with `git lfs pull`, or download it."),
    (257, b"ustar", "a tar archive, as very old PyTorch files are", _CONVERT),
)


def refuse(head: bytes, where: str, size: int) -> ModelFileError:
    """The error that names what a file that is no safetensors is, from its first bytes (`HEAD_BYTES` or fewer)."""
    what, remedy = _name(head, PurePath(where).suffix.lower(), size)
    return ModelFileError(what, where, remedy)


def _name(head: bytes, ending: str, size: int) -> tuple[str, str]:
    if not size:
        return "the file is empty", _AGAIN
    for at, magic, name, remedy in _MAGIC:
        if head.startswith(magic, at):
            return f"this is {name}", remedy
    if head.startswith(b"PK\x03\x04"):
        if b"data.pkl" in head or ending in _PICKLED_ENDINGS:
            return "this is a pickled PyTorch file", _CONVERT
        return "this is a zip archive", "Unpack it first, if you trust where it comes from."
    if head[:1] == b"\x80" and head[1:2] in b"\1\2\3\4\5" and len(head) > 1:
        return "this is a pickled Python file", _CONVERT
    text = head[:256].lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "this is a web page, saved under a model's name", "The download was refused or needs a login: download it in the browser."
    if text.startswith((b"{", b"[")):
        return "this is a JSON file", "Name the folder or the .safetensors file instead."
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a"):
        return "this is an ONNX file", "ONNX is not read. Get the .safetensors file of the same model."
    if not head.strip(b"\0"):
        return "the file begins with nothing but zeros", f"The download was not finished. {_AGAIN}"
    if ending in _PICKLED_ENDINGS:
        return f"this is no safetensors file, and files ending in {ending} are pickled", _CONVERT
    return "this is no safetensors file", _AGAIN
