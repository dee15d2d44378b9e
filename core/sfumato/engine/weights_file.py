"""From a safetensors file into a network, a tensor at a time, so that a checkpoint is never in memory twice.

The network is built with empty (meta) parameters. Which tensor goes where is worked out beforehand on meta tensors (that is
how diffusers' own converters can be used without reading anything). Then each tensor is read, cast and put in its place.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelFileError
from sfumato.models.safetensors_file import Header, read_header
from sfumato.progress import Progress

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One tensor of a file, and the shape it takes in the network."""

    file: Path
    dtype: str
    start: int
    """Where its bytes begin in the file."""
    size: int
    """How many bytes they are."""
    shape: tuple[int, ...]
    stamp: tuple[int, int] | None = None
    """(time of change in ns, bytes) of the file when this was planned; None: any will do."""

    @classmethod
    def of(cls, header: Header, name: str, shape: tuple[int, ...], offset: int = 0, stamp: tuple[int, int] | None = None) -> Source:
        """The tensor `name` of a file, or as much of it as `shape` holds, from element `offset` on. Raises ModelFileError for
        a dtype that torch has no use for."""
        info = header.tensors[name]
        item = _dtype(header, name).itemsize
        start = header.data_start + info.offsets[0] + offset * item
        return cls(header.path, info.dtype, start, torch.Size(shape).numel() * item, shape, stamp)


Plan = Mapping[str, Source]
"""Parameter name in the network -> where it comes from."""

Convert = Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]


def plan(header: Header, convert: Convert | None = None, prefix: str = "") -> dict[str, Source]:
    """Which tensor of the file becomes which parameter.

    `convert` renames (and may slice or reshape) a dict of tensors as diffusers' checkpoint converters do; it is run on meta
    tensors. Without it names stay as they are, less `prefix`.
    """
    stamp = _stamp_of(header)
    meta = {
        name: torch.empty(info.shape, dtype=_dtype(header, name), device="meta")
        for name, info in header.tensors.items()
        if name.startswith(prefix)
    }
    origin = {id(tensor): name for name, tensor in meta.items()}
    kept = list(meta.values())  # alive until the end, so that no id is given twice
    renamed = _converted(header, convert, meta) if convert else {name.removeprefix(prefix): t for name, t in meta.items()}
    found = {}
    for name, tensor in renamed.items():
        base = tensor if id(tensor) in origin else tensor._base
        if base is None or id(base) not in origin or not tensor.is_contiguous():
            raise ModelFileError(f"{name} is not in the file as the network wants it", str(header.path), _OTHER_MODEL)
        found[name] = Source.of(header, origin[id(base)], tuple(tensor.shape), int(tensor.storage_offset()), stamp)
    del kept
    return found


def _converted(header: Header, convert: Convert, meta: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    try:
        return convert(dict(meta))
    except (KeyError, IndexError) as error:
        raise ModelFileError(f"tensors are missing, the first is {error.args[0]!r}", str(header.path), _OTHER_MODEL) from error


def _dtype(header: Header, name: str) -> torch.dtype:
    kind = header.tensors[name].dtype
    if kind not in DTYPES:
        raise ModelFileError(f"{name} is of the type {kind}, which is not supported", str(header.path), "Look for the file in float16.")
    return DTYPES[kind]


def _stamp_of(header: Header) -> tuple[int, int]:
    try:
        return header.path.stat().st_mtime_ns, header.size
    except OSError as error:
        raise ModelFileError("the file is gone", str(header.path), _GONE) from error


def read_tensors(path: Path, progress: Progress | None = None) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, each a copy of its own in the dtype of the file. For small files (LoRA, embeddings)."""
    header = read_header(path)
    with _opened(path) as data:
        result = {}
        for name, info in header.tensors.items():
            (progress or Progress.silent()).check()
            result[name] = _tensor(data, Source.of(header, name, info.shape))
    return result


def fill(module: nn.Module, sources: Plan, dtype: torch.dtype, progress: Progress, what: str) -> nn.Module:
    """Put the planned tensors into `module` (built with meta parameters), cast to `dtype` where they are floats.

    Raises ModelFileError when a parameter is missing or has another shape, or a file has changed since the plan was made;
    CancelledError between any two tensors.
    """
    slots = dict(_slots(module))
    missing = sorted(set(slots) - set(sources) - _optional_buffers(module))
    if missing:
        raise ModelFileError(f"{what}: {len(missing)} tensors are missing, the first is {missing[0]!r}", _first_file(sources), _OTHER_MODEL)
    by_file: dict[Path, list[str]] = {}
    for name in slots:
        if name in sources:
            by_file.setdefault(sources[name].file, []).append(name)
    done = 0
    for path, names in by_file.items():
        with _opened(path) as data:
            _check_unchanged(data, sources[names[0]])
            for name in sorted(names, key=lambda n: sources[n].start):
                progress.step(f"loading {what}", done, len(slots))
                _put(module, name, slots[name], sources[name], _tensor(data, sources[name]), dtype)
                done += 1
    return module


def _check_unchanged(file: Any, source: Source) -> None:
    stat = os.fstat(file.fileno())
    if source.stamp is not None and source.stamp != (stat.st_mtime_ns, stat.st_size):
        raise ModelFileError("the file was replaced since it was looked at", str(source.file), "Start again: the new file is then read.")


_GONE = "It was there when it was listed; put it back or choose another."
_OTHER_MODEL = "The file is another kind of model, or was cut short when it was made; `sfumato models info` says what it holds."


def _slots(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    saved = set(module.state_dict())
    yield from module.named_parameters()
    yield from ((n, b) for n, b in module.named_buffers() if n in saved)


def _optional_buffers(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_buffers()}


def _first_file(sources: Plan) -> str:
    return str(next(iter(sources.values())).file) if sources else ""


def _put(module: nn.Module, name: str, slot: torch.Tensor, source: Source, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    if tuple(slot.shape) != source.shape:
        raise ModelFileError(f"{name} is {list(source.shape)}, the network wants {list(slot.shape)}", str(source.file), _OTHER_MODEL)
    value = tensor.to(dtype) if tensor.is_floating_point() else tensor
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if isinstance(slot, nn.Parameter):
        setattr(owner, leaf, nn.Parameter(value, requires_grad=False))
    else:
        setattr(owner, leaf, value)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise ModelFileError("the file is gone", str(path), _GONE) from error
    except OSError as error:
        raise ModelFileError(f"the file cannot be read ({error.strerror})", str(path), "Check the disk and the permissions.") from error


def _tensor(file: Any, source: Source) -> torch.Tensor:
    if source.size == 0:
        return torch.empty(source.shape, dtype=DTYPES[source.dtype])
    # An anonymous map gives its pages back to the system at once when it is dropped; the heap would keep them.
    try:
        buffer = mmap.mmap(-1, source.size)
    except OSError as error:
        raise MemoryError(f"no memory for {source.size} bytes of {source.file.name}") from error
    file.seek(source.start)
    if file.readinto(buffer) != source.size:
        raise ModelFileError("the file is shorter than its header says", str(source.file), "Download it again.")
    return torch.frombuffer(buffer, dtype=DTYPES[source.dtype]).reshape(source.shape)
