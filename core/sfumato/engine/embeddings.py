"""Textual-inversion embeddings (Gal et al. 2022, arXiv:2208.01618): files with the vectors of a word that no tokenizer knows.

Read are safetensors files in the layouts that are in use: one tensor under any name (the token in files of diffusers'
trainings, `emb_params` in those of A1111's kin), or `clip_l` and `clip_g` for models with two text encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sfumato.engine.weights_file import read_tensors
from sfumato.errors import ModelFileError
from sfumato.models import ModelLibrary
from sfumato.models.safetensors_file import TensorInfo, read_header

VECTOR_LIMIT = 512
BYTE_LIMIT = 16 * 2**20

_BY_ENCODER = ("clip_l", "clip_g")
_FLOATS = ("F64", "F32", "F16", "BF16")
_RETRY = "Download it again, or choose another; `sfumato models info` says what a file holds."


def embeddings_of(library: ModelLibrary, encoder: str = "clip_l") -> Callable[[str], torch.Tensor]:
    """What a text encoder asks for the vectors [n,D] of a name; raises ModelMissingError with near names, ModelFileError."""
    return lambda name: read_embedding(library.find("embeddings", name).path, encoder)


def read_embedding(path: Path, encoder: str = "clip_l") -> torch.Tensor:
    """The vectors of an embedding file, float32 [n,D] with 1 <= n <= VECTOR_LIMIT; `encoder` chooses where a file holds two.

    Raises ModelFileError for a pickled file (`.pt`, `.bin`: never opened, as they could run code), one that is damaged or holds
    something else, and for numbers that are not finite.
    """
    header = read_header(path)
    if header.size > BYTE_LIMIT:
        raise ModelFileError(f"more than {BYTE_LIMIT // 2**20} MB are too much for an embedding", str(path), _RETRY)
    tensors = header.tensors
    name = _name_for(encoder, tensors, path)
    _check(name, tensors[name], path)
    vectors = read_tensors(path)[name].float()
    if not torch.isfinite(vectors).all():
        raise ModelFileError(f"{name!r} holds numbers that are not finite", str(path), _RETRY)
    return vectors.reshape(-1, vectors.shape[-1])


def _name_for(encoder: str, tensors: Mapping[str, TensorInfo], path: Path) -> str:
    by_encoder = [name for name in _BY_ENCODER if name in tensors]
    if encoder in by_encoder:
        return encoder
    if by_encoder:
        raise ModelFileError(
            f"the embedding was made for {' and '.join(by_encoder)}, not for {encoder}", str(path), "Use it with a model of its family."
        )
    if "emb_params" in tensors:
        return "emb_params"
    if len(tensors) == 1:
        return next(iter(tensors))
    raise ModelFileError(f"the file holds {len(tensors)} tensors and is no textual-inversion embedding", str(path), _RETRY)


def _check(name: str, info: TensorInfo, path: Path) -> None:
    rows = info.shape[0] if len(info.shape) == 2 else 1
    if len(info.shape) not in (1, 2) or 0 in info.shape or info.dtype not in _FLOATS:
        raise ModelFileError(f"{name!r} is {info.dtype} {list(info.shape)}, an embedding is [n, width] of floats", str(path), _RETRY)
    if rows > VECTOR_LIMIT:
        raise ModelFileError(f"{rows} vectors are too many, at most {VECTOR_LIMIT} are possible", str(path), _RETRY)
