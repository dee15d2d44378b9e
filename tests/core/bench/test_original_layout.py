"""A checkpoint of random weights: true shapes, a file that opens, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfumato.bench.original_layout import shapes, write_checkpoint
from sfumato.models.safetensors_file import read_header, read_tensor

SMALL = {"b.position_ids": (1, 5), "a.weight": (700, 2000), "c.bias": (3,)}


def test_the_layout_has_the_size_of_stable_diffusion() -> None:
    tensors = shapes()
    numbers = {part: sum(int(np.prod(s)) for n, s in tensors.items() if n.startswith(part)) for part in ("model.", "first_", "cond_")}
    assert numbers == {"model.": 859_520_964, "first_": 83_653_863, "cond_": 123_060_480 + 77}


def test_a_checkpoint_opens_with_what_was_asked_for(tmp_path: Path) -> None:
    size = write_checkpoint(tmp_path / "x.safetensors", SMALL)
    header = read_header(tmp_path / "x.safetensors")
    assert header.size == size
    assert {name: info.shape for name, info in header.tensors.items()} == SMALL
    weights = read_tensor(header, "a.weight").astype(np.float64)
    assert abs(weights.mean()) < 1e-3
    assert 0.019 < weights.std() < 0.021
    assert read_tensor(header, "b.position_ids").tolist() == [[0, 1, 2, 3, 4]]


def test_the_same_seed_gives_the_same_file_and_every_tensor_is_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(tmp_path / name, SMALL | {"d.bias": (3,)}, seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == again != other
    header = read_header(tmp_path / "a")
    assert not np.array_equal(read_tensor(header, "c.bias"), read_tensor(header, "d.bias"))
