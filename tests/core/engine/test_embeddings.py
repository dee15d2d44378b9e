"""Embedding files: the layouts that are read, what is refused and how, and the way from a name in a prompt to its vectors."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfumato.engine.embeddings import BYTE_LIMIT, VECTOR_LIMIT, embeddings_of, read_embedding
from sfumato.errors import ModelFileError, ModelMissingError
from sfumato.models import ModelLibrary
from sfumato.paths import Folders

VECTORS = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))


def saved(path: Path, **tensors: torch.Tensor) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata={"by": "a test"})
    return path


@pytest.mark.parametrize("name", ["emb_params", "<cat-toy>", "*", "string_to_param.*"])
def test_one_tensor_under_any_name_is_an_embedding(tmp_path: Path, name: str) -> None:
    assert torch.equal(read_embedding(saved(tmp_path / "a.safetensors", **{name: VECTORS})), VECTORS)


def test_a_single_vector_is_one_row(tmp_path: Path) -> None:
    assert torch.equal(read_embedding(saved(tmp_path / "a.safetensors", token=VECTORS[0])), VECTORS[:1])


def test_of_several_tensors_emb_params_is_the_embedding(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", emb_params=VECTORS, step=torch.tensor([500]))
    assert torch.equal(read_embedding(file), VECTORS)


def test_a_file_for_two_text_encoders_gives_each_its_own(tmp_path: Path) -> None:
    large = torch.ones(3, 160)
    file = saved(tmp_path / "a.safetensors", clip_l=VECTORS, clip_g=large)
    assert torch.equal(read_embedding(file), VECTORS)
    assert torch.equal(read_embedding(file, "clip_g"), large)


def test_an_embedding_for_the_other_text_encoder_only_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="made for clip_g, not for clip_l"):
        read_embedding(saved(tmp_path / "a.safetensors", clip_g=VECTORS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    found = read_embedding(saved(tmp_path / "a.safetensors", emb_params=VECTORS.to(dtype)))
    assert found.dtype == torch.float32
    assert torch.equal(found, VECTORS.to(dtype).float())


def test_several_tensors_of_other_names_are_no_embedding(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="holds 2 tensors and is no textual-inversion embedding"):
        read_embedding(saved(tmp_path / "a.safetensors", up=VECTORS, down=VECTORS))
    with pytest.raises(ModelFileError, match="holds 0 tensors"):
        read_embedding(saved(tmp_path / "b.safetensors"))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 2, 128), torch.zeros(0, 128), torch.zeros(3, 0), torch.tensor(1.0), torch.zeros(2, 128).int()]
)
def test_a_tensor_of_another_shape_or_kind_is_named_with_both(tmp_path: Path, wrong: torch.Tensor) -> None:
    with pytest.raises(ModelFileError, match=r"'emb_params' is \w+ \[.*\], an embedding is \[n, width\]"):
        read_embedding(saved(tmp_path / "a.safetensors", emb_params=wrong))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    broken = VECTORS.double().clone()
    broken[1, 5] = number
    with pytest.raises(ModelFileError, match="not finite"):
        read_embedding(saved(tmp_path / "a.safetensors", emb_params=broken))


def test_more_vectors_or_bytes_than_an_embedding_has_are_refused(tmp_path: Path) -> None:
    assert len(read_embedding(saved(tmp_path / "a.safetensors", emb_params=torch.zeros(VECTOR_LIMIT, 8)))) == VECTOR_LIMIT
    with pytest.raises(ModelFileError, match=f"{VECTOR_LIMIT + 1} vectors are too many"):
        read_embedding(saved(tmp_path / "b.safetensors", emb_params=torch.zeros(VECTOR_LIMIT + 1, 8)))
    with pytest.raises(ModelFileError, match="more than 16 MB"):
        read_embedding(saved(tmp_path / "c.safetensors", emb_params=torch.zeros(2, BYTE_LIMIT // 8)))


class Harm:
    """Would leave a mark if anybody unpickled it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("ending", [".pt", ".bin", ".safetensors"])
def test_a_pickled_embedding_is_refused_unopened_with_the_way_out(tmp_path: Path, ending: str) -> None:
    file, mark = tmp_path / f"style{ending}", tmp_path / "harmed"
    torch.save({"string_to_param": {"*": VECTORS}, "name": Harm(mark)}, file)
    assert zipfile.is_zipfile(file)
    with pytest.raises(ModelFileError) as caught:
        read_embedding(file)
    assert "pickled" in caught.value.what
    assert "convert it" in caught.value.remedy
    assert caught.value.where == str(file)
    assert not mark.exists()


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.safetensors", emb_params=VECTORS).read_bytes()
    header = json.dumps({"emb_params": {"dtype": "F32", "shape": [3, 128], "data_offsets": [0, 1 << 40]}}).encode()
    for number, content in enumerate([b"", whole[:20], whole[:-7], whole + b"x", len(header).to_bytes(8, "little") + header]):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(content)
        with pytest.raises(ModelFileError, match=str(file)):
            read_embedding(file)


def test_a_name_in_a_prompt_finds_its_file_and_a_wrong_one_near_names(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings" / "styles"
    folder.mkdir(parents=True)
    saved(folder / "dotted.safetensors", emb_params=VECTORS)
    find = embeddings_of(ModelLibrary(Folders.under(tmp_path)))
    assert torch.equal(find("dotted"), VECTORS)
    assert torch.equal(find("styles/dotted.safetensors"), VECTORS)
    with pytest.raises(ModelMissingError, match=r"Did you mean 'styles/dotted\.safetensors'"):
        find("styles/doted")
