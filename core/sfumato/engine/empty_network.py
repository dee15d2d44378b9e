"""Networks built from a configuration without weights, whatever a stranger's configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from sfumato.errors import ModelFileError

MOST_LAYERS = 128
"""Even without weights, a network of a million layers takes hours to build. No known network has this many of anything counted here."""

_COUNTS = (
    "layers_per_block",
    "transformer_layers_per_block",
    "num_hidden_layers",
    "block_out_channels",
    "conditioning_embedding_out_channels",
    "down_block_types",
    "up_block_types",
)


def empty_network(build: Callable[[dict[str, Any]], nn.Module], config: Mapping[str, Any], where: str) -> nn.Module:
    """`build(config)` with parameters that take no memory (on the meta device); buffers are real.

    Raises ModelFileError for a configuration that no network can be built from, or an enormous one. The caller holds the residency's
    loading lock: accelerate changes `nn.Module` for the whole process meanwhile.
    """
    from accelerate import init_empty_weights  # takes seconds, and so do the libraries that `build` imports

    _refuse_wild_counts(config, where)
    try:
        with init_empty_weights():
            return build(dict(config))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, NotImplementedError, RuntimeError) as error:
        raise ModelFileError(f"no network can be built from its configuration ({error})", where, "Get the model again.") from error


def _refuse_wild_counts(config: Mapping[str, Any], where: str) -> None:
    for name in _COUNTS:
        value = config.get(name, 1)
        counts = _numbers(value)
        if (
            not counts
            or not all(isinstance(number, int) and 0 < number <= _limit(name) for number in counts)
            or _length(value) > MOST_LAYERS
        ):
            raise ModelFileError(f"its configuration gives {name} as {str(value)[:80]}", where, "Get the model again.")


def _limit(name: str) -> int:
    return 1 << 16 if name.endswith("out_channels") else MOST_LAYERS


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _numbers(value: Any) -> list[Any]:
    """The numbers in a setting; names count as 1, lists may hold lists."""
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [1] if isinstance(value, str) else [value]
