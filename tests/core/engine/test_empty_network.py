"""Networks from configurations of strangers: no memory for weights, one clear error for nonsense, and no hours of building."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from sfumato.engine.empty_network import empty_network
from sfumato.errors import ModelFileError


def _built(config: dict[str, Any]) -> nn.Module:
    return nn.Sequential(*(nn.Linear(config["width"], config["width"]) for _ in range(config["layers_per_block"])))


def test_its_parameters_take_no_memory() -> None:
    network = empty_network(_built, {"width": 4096, "layers_per_block": 3}, "model")
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert len(network) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [10**9, 0, -1, 1.5, None, [], [2, 10**9], [[1, 2], [10**6]], {"a": 1}])
def test_a_wild_count_is_refused_before_anything_is_built(count: Any) -> None:
    def never(config: dict[str, Any]) -> nn.Module:
        raise AssertionError("built")

    with pytest.raises(ModelFileError, match="layers_per_block"):
        empty_network(never, {"layers_per_block": count}, "model")


@pytest.mark.parametrize(
    "config", [{"layers_per_block": 1}, {"layers_per_block": 1, "width": "wide"}, {"layers_per_block": 1, "width": -1}]
)
def test_a_configuration_that_builds_nothing_is_one_clear_error(config: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match="no network can be built"):
        empty_network(_built, config, "model")
