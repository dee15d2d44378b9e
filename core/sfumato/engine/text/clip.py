"""A CLIP text encoder at work: the chunks of a prompt through the network, then weighed and put in a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from sfumato.engine.prompts import Dialect, Embedding, Prompt, parse
from sfumato.engine.text.tokens import CHUNK_LIMIT, Chunk, ChunkKey, Tokenizer, chunks, token_count
from sfumato.engine.text.weights import Weighting, mean_restored, towards_empty
from sfumato.errors import BadValueError, ModelFileError, ModelMissingError

Embeddings = Mapping[str, torch.Tensor]
"""Name -> vectors [n,D]."""


class ClipInternals(NamedTuple):
    """The parts of a transformers CLIP text model that are reached into."""

    token_embedding: nn.Embedding
    layers: nn.ModuleList
    final_layer_norm: nn.Module


def clip_internals(model: nn.Module) -> ClipInternals:
    """The parts of a CLIPTextModel (flat since transformers 5.9, below `.text_model` before) or CLIPTextModelWithProjection."""
    inner: Any = getattr(model, "text_model", model)
    return ClipInternals(inner.embeddings.token_embedding, inner.encoder.layers, inner.final_layer_norm)


@dataclass(frozen=True)
class ClipTextEncoder:
    """The text side of a family with one CLIP encoder; a `TextEncoder` of `engine.protocols`. Holds no weights.

    `final_norm` False leaves a skipped-to layer without the final layer norm, as SDXL's encoders are used.
    """

    tokenizer: Tokenizer
    final_norm: bool = True
    weighting: Weighting = "comfy"

    def encode(
        self,
        module: nn.Module,
        text: str,
        *,
        skip: int = 0,
        dialect: str = "sfumato",
        embedding: Callable[[str], torch.Tensor | None] = lambda name: None,
    ) -> list[Any]:
        """CONDITIONING of a prompt's text; see `encode`."""
        if dialect not in ("sfumato", "comfy"):
            raise BadValueError(f"there is no prompt dialect {dialect!r}", "dialect", "It is sfumato or comfy.")
        prompt = parse(text, cast("Dialect", dialect))
        return encode(module, self.tokenizer, prompt, skip=skip, final_norm=self.final_norm, weighting=self.weighting, embedding=embedding)

    def count(self, text: str) -> int:
        """How many tokens the text takes, an embedding counted as one."""
        return token_count(text, self.tokenizer).tokens


def encode(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    skip: int = 0,
    final_norm: bool = True,
    weighting: Weighting = "comfy",
    embedding: Callable[[str], torch.Tensor | None] = lambda name: None,
) -> list[Any]:
    """CONDITIONING: one `[tensor, options]` for each stage of the prompt; tensors float32 on the CPU.

    The tensor is [1, 77*k, D] for k chunks. `options["pooled_output"]` [1, D] is the encoder's pooled output for the first chunk,
    which weights and `skip` leave alone; a prompt with a schedule also has `start_percent` and `end_percent` (0..1).

    `model` is a CLIPTextModel, or one with projection, on its device. `skip` counts layers as people do: 0 and 1 take the last
    one's output, 2 the one before (ComfyUI's stop_at_clip_layer -2), with the final layer norm unless `final_norm` is False.
    `embedding(name)` gives the vectors [n,D] of a textual-inversion embedding, or None. All distinct chunks go through the
    network once, together.

    Raises BadValueError (too long a prompt, too many stages, `skip` out of range), ModelMissingError (an embedding that is
    not there) and ModelFileError (an embedding of another width).
    """
    internals = clip_internals(model)
    if not 0 <= skip <= len(internals.layers):
        raise BadValueError(
            f"clip skip {skip} is impossible: the text encoder has {len(internals.layers)} layers",
            "clip skip",
            f"Use a number from 1 (the output of the last layer) to {len(internals.layers)} (of the first).",
        )
    stages = prompt.stages()
    names = dict.fromkeys(span.piece.name for span in prompt.spans if isinstance(span.piece, Embedding))
    vectors = {name: _vectors(name, embedding, internals.token_embedding.embedding_dim) for name in names}
    plans = [chunks(stage.pieces, tokenizer, lambda name: len(vectors[name])) for stage in stages]
    needed = [chunk for plan in plans for chunk in plan]
    empty = chunks((), tokenizer, len)[0] if weighting == "comfy" and any(map(_is_weighted, needed)) else None
    encoded = _run(model, needed + ([empty] if empty else []), vectors, skip, final_norm)
    conditioning = []
    for stage, plan in zip(stages, plans, strict=True):
        context = _weighed(plan, encoded, empty)
        options: dict[str, Any] = {"pooled_output": encoded[plan[0].key].pooled[None]}
        if len(stages) > 1:
            options |= {"start_percent": stage.start, "end_percent": stage.end}
        conditioning.append([context.reshape(1, -1, context.shape[-1]), options])
    return conditioning


class _Encoded(NamedTuple):
    hidden: torch.Tensor
    """[77,D] float32, CPU."""
    pooled: torch.Tensor
    """[D] float32, CPU."""


def _vectors(name: str, embedding: Callable[[str], torch.Tensor | None], width: int) -> torch.Tensor:
    found = embedding(name)
    if found is None:
        raise ModelMissingError(
            f"there is no embedding {name!r}", "prompt", "Put its file into the folder of embeddings, or take it out of the prompt."
        )
    if found.ndim != 2 or found.shape[1] != width:
        raise ModelFileError(
            f"the embedding is {list(found.shape)}, this text encoder wants [n, {width}]", name, "It was made for another family of models."
        )
    return found


def _is_weighted(chunk: Chunk) -> bool:
    return any(weight != 1.0 for weight in chunk.weights)


def _weighed(plan: Sequence[Chunk], encoded: Mapping[ChunkKey, _Encoded], empty: Chunk | None) -> torch.Tensor:
    """The chunks of one stage [k,77,D] with their weights; `empty` is the chunk to move away from in ComfyUI's way."""
    hidden = torch.stack([encoded[chunk.key].hidden for chunk in plan])
    if not any(map(_is_weighted, plan)):
        return hidden
    weights = torch.tensor([chunk.weights for chunk in plan])
    return mean_restored(hidden, weights) if empty is None else towards_empty(hidden, weights, encoded[empty.key].hidden)


def _run(model: nn.Module, needed: Sequence[Chunk], vectors: Embeddings, skip: int, final_norm: bool) -> dict[ChunkKey, _Encoded]:
    """Every distinct chunk through the network, once; in one batch unless there are more than CHUNK_LIMIT."""
    distinct = list({chunk.key: chunk for chunk in needed}.values())
    encoded: dict[ChunkKey, _Encoded] = {}
    for first in range(0, len(distinct), CHUNK_LIMIT):
        batch = distinct[first : first + CHUNK_LIMIT]
        hidden, pooled = _forward(model, batch, vectors, skip, final_norm)
        encoded |= {chunk.key: _Encoded(hidden[at], pooled[at]) for at, chunk in enumerate(batch)}
    return encoded


def _forward(
    model: nn.Module, batch: Sequence[Chunk], vectors: Embeddings, skip: int, final_norm: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [N,77,D] and pooled outputs [N,D] of a batch; float32, CPU."""
    internals = clip_internals(model)
    ids = torch.tensor([chunk.ids for chunk in batch], device=internals.token_embedding.weight.device)
    with torch.no_grad(), _placed(internals.token_embedding, batch, vectors):
        output: Any = model(ids, output_hidden_states=skip > 1)
        hidden = output.last_hidden_state
        if skip > 1:
            hidden = output.hidden_states[-skip]
            hidden = internals.final_layer_norm(hidden) if final_norm else hidden
    projected = getattr(output, "text_embeds", None)
    pooled = output.pooler_output if projected is None else projected
    return hidden.float().cpu(), pooled.float().cpu()


@contextmanager
def _placed(token_embedding: nn.Embedding, batch: Sequence[Chunk], vectors: Embeddings) -> Iterator[None]:
    """While it lasts, this thread's token embeddings have the vectors of the batch's embeddings in their places.

    Neither the tokenizer nor the matrix changes, and other threads that use the encoder meanwhile see nothing of it.
    """
    places = [(at, row) for at, chunk in enumerate(batch) for row in chunk.rows]
    if not places:
        yield
        return
    thread = threading.get_ident()

    def place(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        if threading.get_ident() != thread:
            return output
        output = output.clone()
        for at, (position, name, row) in places:
            output[at, position] = vectors[name][row].to(output)
        return output

    handle = token_embedding.register_forward_hook(place)
    try:
        yield
    finally:
        handle.remove()
