"""From a file into a network: names, places, shapes, and every way in which a file may not be what it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.weights_file import Source, fill, plan, read_tensors
from sfumato.errors import CancelledError, ModelFileError
from sfumato.models.safetensors_file import RawTensor, read_header, write_safetensors
from sfumato.progress import Progress, Step


class Network(nn.Module):
    """Two layers and a table, without weights."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2, bias=False)
        self.register_buffer("table", torch.arange(3))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


VALUES: dict[str, Any] = {
    "first.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "first.bias": np.array([7, 8], np.float16),
    "second.weight": np.array([[1, 2], [3, 4]], np.float64),
    "table": np.array([5, 6, 7], np.int64),
}


def written(folder: Path, values: dict[str, Any] = VALUES, name: str = "model.safetensors") -> Path:
    write_safetensors(folder / name, values)
    return folder / name


def filled(path: Path, dtype: torch.dtype = torch.float32, progress: Progress | None = None, **how: Any) -> Any:
    return fill(Network(), plan(read_header(path), **how), dtype, progress or Progress.silent(), "network")


def test_every_tensor_lands_in_its_place_in_one_dtype(tmp_path: Path) -> None:
    network = filled(written(tmp_path), torch.bfloat16)
    for name, value in VALUES.items():
        found = dict(network.state_dict())[name]
        assert torch.equal(found.double(), torch.from_numpy(value.astype(np.float64)))
        assert found.dtype == (torch.int64 if name == "table" else torch.bfloat16)
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in network.parameters())


def test_names_may_have_a_prefix_and_others_are_left_out(tmp_path: Path) -> None:
    values = {f"model.{name}": value for name, value in VALUES.items()} | {"other.first.weight": np.zeros(1, np.float32)}
    assert torch.equal(filled(written(tmp_path, values), prefix="model.").first.bias, torch.tensor([7.0, 8.0]))


def test_brain_floats_are_read(tmp_path: Path) -> None:
    bias = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    raw = RawTensor("BF16", (2,), bias.view(torch.int16).numpy().tobytes())
    assert torch.equal(filled(written(tmp_path, VALUES | {"first.bias": raw})).first.bias, bias.float())


def test_a_converter_may_rename_slice_and_reshape_without_reading_anything(tmp_path: Path) -> None:
    both = np.arange(10, dtype=np.float32).reshape(5, 2)
    values = {"a": VALUES["first.weight"][..., None, None], "b": VALUES["first.bias"], "c": both, "t": VALUES["table"]}

    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert all(tensor.is_meta for tensor in tensors.values())
        return {
            "first.weight": tensors["a"][:, :, 0, 0],
            "first.bias": tensors.pop("b"),
            "second.weight": tensors["c"][3:],
            "table": tensors["t"],
        }

    network = filled(written(tmp_path, values), convert=convert)
    assert torch.equal(network.first.weight, torch.from_numpy(VALUES["first.weight"]))
    assert torch.equal(network.second.weight, torch.tensor([[6.0, 7], [8, 9]]))


@pytest.mark.parametrize("change", [lambda t: t * 2, lambda t: t.T, lambda t: t[:, :1]])
def test_what_would_have_to_be_computed_is_refused(tmp_path: Path, change: Any) -> None:
    path = written(tmp_path)
    with pytest.raises(ModelFileError, match=r"second\.weight is not in the file"):
        plan(read_header(path), lambda tensors: {"second.weight": change(tensors["second.weight"])})


def test_a_converter_that_misses_a_tensor_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing, the first is 'time_embed\.0\.weight'"):
        plan(read_header(written(tmp_path)), lambda tensors: {"first.bias": tensors["time_embed.0.weight"]})


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {name: value for name, value in VALUES.items() if "first" not in name})
    with pytest.raises(ModelFileError, match=r"network: 2 tensors are missing, the first is 'first\.bias'") as caught:
        filled(path)
    assert str(path) in str(caught.value)


def test_buffers_that_are_not_in_the_file_keep_what_they_were_made_with(tmp_path: Path) -> None:
    network = filled(written(tmp_path, {name: value for name, value in VALUES.items() if name != "table"}))
    assert network.table.tolist() == [0, 1, 2]


def test_a_wrong_shape_is_told_with_both(tmp_path: Path) -> None:
    path = written(tmp_path, VALUES | {"second.weight": np.zeros((4, 2), np.float32)})
    with pytest.raises(ModelFileError, match=r"second\.weight is \[4, 2\], the network wants \[2, 2\]"):
        filled(path)


def test_a_file_replaced_between_look_and_load_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    places = plan(read_header(path))
    written(tmp_path, {name: value + 1 for name, value in VALUES.items()})
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelFileError, match="replaced"):
        fill(Network(), places, torch.float32, Progress.silent(), "network")


def test_a_file_cut_short_between_look_and_load_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    places = plan(read_header(path))
    time = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:-4])
    os.utime(path, ns=(time, time))
    with pytest.raises(ModelFileError, match="replaced"):
        fill(Network(), places, torch.float32, Progress.silent(), "network")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    places = plan(read_header(path))
    path.unlink()
    with pytest.raises(ModelFileError, match="gone"):
        fill(Network(), places, torch.float32, Progress.silent(), "network")


def test_a_truncated_file_is_refused_by_its_header(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFileError, match=str(path)):
        filled(path)


def test_bytes_that_end_too_early_are_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    places = plan(read_header(path))
    beyond = {**places, "first.bias": Source(path, "F32", path.stat().st_size - 4, 8, (2,))}
    with pytest.raises(ModelFileError, match="shorter than its header says"):
        fill(Network(), beyond, torch.float32, Progress.silent(), "network")


@pytest.mark.parametrize("kind", ["C64", "F4", "U64"])
def test_an_element_type_nobody_computes_in_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    raw = RawTensor(kind, (2,), bytes(1 if kind == "F4" else 16))
    path = written(tmp_path, {"first.bias": raw})
    with pytest.raises(ModelFileError, match=f"first.bias is of the type {kind}"):
        plan(read_header(path))
    with pytest.raises(ModelFileError, match=kind):
        read_tensors(path)


def test_loading_may_be_cancelled_between_any_two_tensors(tmp_path: Path) -> None:
    path = written(tmp_path)
    told: list[Step] = []

    def hear(step: Step) -> None:
        told.append(step)
        if step.done == 2:
            progress.cancel.set()

    progress = Progress(hear)
    with pytest.raises(CancelledError):
        filled(path, progress=progress)
    assert [(step.what, step.done, step.total) for step in told] == [("loading network", n, 4) for n in range(3)]


def test_several_files_make_one_network(tmp_path: Path) -> None:
    half = [{n: v for n, v in VALUES.items() if ("first" in n) is first} for first in (True, False)]
    places = {n: s for number, values in enumerate(half) for n, s in plan(read_header(written(tmp_path, values, f"{number}.st"))).items()}
    network: Any = fill(Network(), places, torch.float32, Progress.silent(), "network")
    assert torch.equal(network.second.weight, torch.tensor([[1.0, 2], [3, 4]]))


def test_all_tensors_of_a_small_file_are_read_as_they_are(tmp_path: Path) -> None:
    found = read_tensors(written(tmp_path, VALUES | {"nothing": np.zeros((0, 3), np.float32), "one": np.array(3.0, np.float32)}))
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "first.weight": (2, 3), "first.bias": (2,), "second.weight": (2, 2), "table": (3,), "nothing": (0, 3), "one": (),
    }  # fmt: skip
    assert found["first.bias"].dtype == torch.float16
    found["first.bias"] += 1
    assert read_tensors(tmp_path / "model.safetensors")["first.bias"].tolist() == [7, 8]
