"""Which number format is chosen, and that the measurement behind it is remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sfumato.engine.dtypes import SMALL_NETWORK, compute_dtype, cpu_gain
from sfumato.errors import BadValueError

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_precision_asked_for_is_used_everywhere(precision: str) -> None:
    for device in (CPU, torch.device("cuda"), torch.device("mps")):
        assert compute_dtype(device, 10, precision, None) == getattr(torch, precision)


def test_an_unknown_precision_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadValueError, match="float32, bfloat16"):
        compute_dtype(CPU, 10, "double", None)


def test_small_networks_on_a_cpu_stay_in_float32_without_any_measurement(tmp_path: Path) -> None:
    assert compute_dtype(CPU, SMALL_NETWORK - 1, "auto", tmp_path / "memory.json") == torch.float32
    assert not (tmp_path / "memory.json").exists()


def test_large_networks_on_a_cpu_follow_a_measurement_that_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "new folder" / "memory.json"
    chosen = compute_dtype(CPU, SMALL_NETWORK, "auto", memory)
    ((_, gain),) = json.loads(memory.read_text()).items()
    assert gain > 0
    assert chosen == (torch.bfloat16 if gain >= 1.2 else torch.float32)
    assert cpu_gain(memory) == gain


@pytest.mark.parametrize(("gain", "dtype"), [(1.6, torch.bfloat16), (1.19, torch.float32), (0.3, torch.float32)])
def test_what_is_remembered_decides(tmp_path: Path, gain: float, dtype: torch.dtype) -> None:
    memory = tmp_path / "memory.json"
    cpu_gain(memory)
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), gain)))
    assert compute_dtype(CPU, SMALL_NETWORK, "auto", memory) == dtype


@pytest.mark.parametrize("content", ["", "not JSON", "[1, 2]", '{"a": "b"}', "\x00"])
def test_a_damaged_note_is_measured_anew(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "memory.json"
    memory.write_text(content)
    assert cpu_gain(memory) == cpu_gain(memory) > 0


def test_a_note_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cpu_gain(tmp_path / "file" / "memory.json") > 0
    assert cpu_gain(None) > 0
