"""A checkpoint in the original layout of Stable Diffusion 1.x with random weights: true names, true shapes, 2 GB in float16.

Written a tensor at a time, so that the writer needs next to no memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sfumato.files import write_atomically

Shapes = dict[str, tuple[int, ...]]

_BLOCK = 1 << 20
"""So many random numbers are drawn; each tensor takes them from a place of its own, again and again."""
_STRIDE = 7919


def shapes(width: int = 320, text: int = 768, layers: int = 12, words: int = 49408) -> Shapes:
    """Names and shapes of all tensors, UNet, autoencoder and text encoder, as the original training code names them."""
    return {
        **{f"model.diffusion_model.{name}": shape for name, shape in _unet(width, text)},
        **{f"first_stage_model.{name}": shape for name, shape in _autoencoder()},
        **{f"cond_stage_model.transformer.text_model.{name}": shape for name, shape in _text_encoder(text, layers, words)},
    }


def write_checkpoint(path: Path, tensors: Shapes, seed: int = 0) -> int:
    """Write random float16 tensors (`position_ids` int64) of these shapes; returns the file's size in bytes."""
    table, at = {}, 0
    for name, shape in tensors.items():
        kind, item = ("I64", 8) if name.endswith("position_ids") else ("F16", 2)
        size = int(np.prod(shape)) * item
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    numbers = (np.random.default_rng(seed).standard_normal(_BLOCK, np.float32) * 0.02).astype(np.float16)

    def write(stream: IO[bytes]) -> None:
        stream.write(len(head).to_bytes(8, "little") + head)
        for place, (name, shape) in enumerate(tensors.items()):
            if name.endswith("position_ids"):
                stream.write(np.arange(np.prod(shape), dtype=np.int64).tobytes())
            else:
                for part in _numbers(numbers, place * _STRIDE, int(np.prod(shape))):
                    stream.write(part)

    return write_atomically(path, write, sync=False)


def _numbers(numbers: np.ndarray[tuple[int], np.dtype[np.float16]], start: int, count: int) -> Iterator[bytes]:
    while count:
        part = numbers[start % _BLOCK :][:count]
        yield part.tobytes()
        start, count = start + len(part), count - len(part)


_Named = Iterator[tuple[str, tuple[int, ...]]]


def _pair(name: str, out: int, *of: int) -> _Named:
    """A weight and its bias."""
    yield f"{name}.weight", (out, *of)
    yield f"{name}.bias", (out,)


def _unet(width: int, text: int) -> _Named:
    channels = [width, 2 * width, 4 * width, 4 * width]
    time = 4 * width
    yield from _pair("time_embed.0", time, width)
    yield from _pair("time_embed.2", time, time)
    yield from _pair("input_blocks.0.0", width, 4, 3, 3)
    skips, number, now = [width], 1, width
    for level, wide in enumerate(channels):
        for _ in range(2):
            yield from _residual(f"input_blocks.{number}.0", now, wide, time)
            if level < 3:
                yield from _transformer(f"input_blocks.{number}.1", wide, text)
            now, number = wide, number + 1
            skips.append(now)
        if level < 3:
            yield from _pair(f"input_blocks.{number}.0.op", now, now, 3, 3)
            number += 1
            skips.append(now)
    yield from _residual("middle_block.0", now, now, time)
    yield from _transformer("middle_block.1", now, text)
    yield from _residual("middle_block.2", now, now, time)
    number = 0
    for level in (3, 2, 1, 0):
        for turn in range(3):
            yield from _residual(f"output_blocks.{number}.0", now + skips.pop(), channels[level], time)
            now = channels[level]
            if level < 3:
                yield from _transformer(f"output_blocks.{number}.1", now, text)
            if turn == 2 and level > 0:
                yield from _pair(f"output_blocks.{number}.{2 if level < 3 else 1}.conv", now, now, 3, 3)
            number += 1
    yield from _pair("out.0", width)
    yield from _pair("out.2", 4, width, 3, 3)


def _residual(name: str, into: int, out: int, time: int) -> _Named:
    yield from _pair(f"{name}.in_layers.0", into)
    yield from _pair(f"{name}.in_layers.2", out, into, 3, 3)
    yield from _pair(f"{name}.emb_layers.1", out, time)
    yield from _pair(f"{name}.out_layers.0", out)
    yield from _pair(f"{name}.out_layers.3", out, out, 3, 3)
    if into != out:
        yield from _pair(f"{name}.skip_connection", out, into, 1, 1)


def _transformer(name: str, wide: int, text: int) -> _Named:
    block = f"{name}.transformer_blocks.0"
    yield from _pair(f"{name}.norm", wide)
    yield from _pair(f"{name}.proj_in", wide, wide, 1, 1)
    for attention, source in (("attn1", wide), ("attn2", text)):
        yield f"{block}.{attention}.to_q.weight", (wide, wide)
        yield f"{block}.{attention}.to_k.weight", (wide, source)
        yield f"{block}.{attention}.to_v.weight", (wide, source)
        yield from _pair(f"{block}.{attention}.to_out.0", wide, wide)
    yield from _pair(f"{block}.ff.net.0.proj", 8 * wide, wide)
    yield from _pair(f"{block}.ff.net.2", wide, 4 * wide)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _pair(f"{block}.{norm}", wide)
    yield from _pair(f"{name}.proj_out", wide, wide, 1, 1)


def _autoencoder(width: int = 128) -> _Named:
    channels = [width, 2 * width, 4 * width, 4 * width]
    top = channels[-1]
    yield from _pair("encoder.conv_in", width, 3, 3, 3)
    now = width
    for level, wide in enumerate(channels):
        for block in range(2):
            yield from _vae_residual(f"encoder.down.{level}.block.{block}", now, wide)
            now = wide
        if level < 3:
            yield from _pair(f"encoder.down.{level}.downsample.conv", now, now, 3, 3)
    yield from _vae_middle("encoder", top)
    yield from _pair("encoder.norm_out", top)
    yield from _pair("encoder.conv_out", 8, top, 3, 3)
    yield from _pair("decoder.conv_in", top, 4, 3, 3)
    yield from _vae_middle("decoder", top)
    for level in (3, 2, 1, 0):
        for block in range(3):
            yield from _vae_residual(f"decoder.up.{level}.block.{block}", now, channels[level])
            now = channels[level]
        if level > 0:
            yield from _pair(f"decoder.up.{level}.upsample.conv", now, now, 3, 3)
    yield from _pair("decoder.norm_out", width)
    yield from _pair("decoder.conv_out", 3, width, 3, 3)
    yield from _pair("quant_conv", 8, 8, 1, 1)
    yield from _pair("post_quant_conv", 4, 4, 1, 1)


def _vae_residual(name: str, into: int, out: int) -> _Named:
    yield from _pair(f"{name}.norm1", into)
    yield from _pair(f"{name}.conv1", out, into, 3, 3)
    yield from _pair(f"{name}.norm2", out)
    yield from _pair(f"{name}.conv2", out, out, 3, 3)
    if into != out:
        yield from _pair(f"{name}.nin_shortcut", out, into, 1, 1)


def _vae_middle(half: str, wide: int) -> _Named:
    yield from _vae_residual(f"{half}.mid.block_1", wide, wide)
    yield from _pair(f"{half}.mid.attn_1.norm", wide)
    for part in ("q", "k", "v", "proj_out"):
        yield from _pair(f"{half}.mid.attn_1.{part}", wide, wide, 1, 1)
    yield from _vae_residual(f"{half}.mid.block_2", wide, wide)


def _text_encoder(wide: int, layers: int, words: int) -> _Named:
    yield "embeddings.position_ids", (1, 77)
    yield "embeddings.token_embedding.weight", (words, wide)
    yield "embeddings.position_embedding.weight", (77, wide)
    for layer in range(layers):
        name = f"encoder.layers.{layer}"
        for part in ("k", "v", "q", "out"):
            yield from _pair(f"{name}.self_attn.{part}_proj", wide, wide)
        yield from _pair(f"{name}.layer_norm1", wide)
        yield from _pair(f"{name}.mlp.fc1", 4 * wide, wide)
        yield from _pair(f"{name}.mlp.fc2", wide, 4 * wide)
        yield from _pair(f"{name}.layer_norm2", wide)
    yield from _pair("final_layer_norm", wide)
