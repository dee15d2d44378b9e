"""Hashes agree with hashlib, are remembered while a file stays as it is, and can be cancelled."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

import sfumato_resources
from sfumato.errors import CancelledError, ModelFileError
from sfumato.models import ModelHashes
from sfumato.models.hashing import weight_files
from sfumato.progress import CancelFlag, Progress, Step

CONTENT = bytes(range(256)) * 40_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model ü.safetensors"
    path.write_bytes(CONTENT)
    return path


def steps_of(hashes: ModelHashes, path: Path) -> tuple[str, list[Step]]:
    steps: list[Step] = []
    return hashes.sha256(path, Progress(steps.append)), steps


def test_the_hash_is_sha256_and_the_short_one_its_first_ten_digits(model: Path, tmp_path: Path) -> None:
    digest, steps = steps_of(ModelHashes(tmp_path / "cache"), model)
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert [step.done for step in steps][-1] == len(CONTENT) == steps[-1].total and len(steps) == 3
    assert ModelHashes(tmp_path / "cache").short(model) == digest[:10]


def test_a_file_is_read_once_and_again_when_it_changes(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    first, _ = steps_of(ModelHashes(cache), model)
    assert steps_of(ModelHashes(cache), model) == (first, [])
    os.utime(model, ns=(1, 1))
    assert len(steps_of(ModelHashes(cache), model)[1]) == 3
    model.write_bytes(b"other")
    assert steps_of(ModelHashes(cache), model)[0] == hashlib.sha256(b"other").hexdigest()


def test_a_replaced_file_of_the_same_size_and_time_is_read_again(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ModelHashes(cache).sha256(model)
    facts, other = model.stat(), tmp_path / "other"
    other.write_bytes(bytes(len(CONTENT)))
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(model)
    assert ModelHashes(cache).sha256(model) == hashlib.sha256(bytes(len(CONTENT))).hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": 3}', b"\xff", b'{"a":' * 50_000])
def test_a_damaged_cache_only_costs_time(model: Path, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "hashes.json").write_bytes(damage)
    digest, steps = steps_of(ModelHashes(tmp_path), model)
    assert digest == hashlib.sha256(CONTENT).hexdigest() and steps
    assert steps_of(ModelHashes(tmp_path), model) == (digest, [])


def test_a_cache_that_cannot_be_written_only_costs_time(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ModelHashes(tmp_path / "file" / "cache").sha256(model) == hashlib.sha256(CONTENT).hexdigest()


def test_hashing_stops_when_the_user_says_so(model: Path, tmp_path: Path) -> None:
    flag = CancelFlag()
    with pytest.raises(CancelledError):
        ModelHashes(tmp_path / "cache").sha256(model, Progress(lambda step: flag.set(), flag))
    assert not (tmp_path / "cache").exists()


def test_a_file_that_changes_meanwhile_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="changed while"):
        ModelHashes(tmp_path / "cache").sha256(model, Progress(lambda step: os.utime(model, ns=(step.done, step.done))))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        ModelHashes(tmp_path).sha256(tmp_path / "missing")
    with pytest.raises(ModelFileError, match="no safetensors"):
        ModelHashes(tmp_path).sha256(tmp_path)


def test_a_folders_hash_is_what_sha256sum_would_say_of_its_weights(tmp_path: Path) -> None:
    folder = sfumato_resources.embedded_model()
    names = sorted(path.relative_to(folder).as_posix() for path in weight_files(folder))
    assert {name.partition("/")[0] for name in names} == {"text_encoder", "unet", "vae"}
    printed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    assert ModelHashes(tmp_path).sha256(folder) == hashlib.sha256(printed).hexdigest()


def test_companions_beside_the_components_do_not_change_a_folders_hash(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"], "../x": ["a", "b"], "_class_name": "P"}')
    (folder / "unet" / "model.safetensors").write_bytes(b"weights")
    before = ModelHashes(tmp_path / "cache").sha256(folder)
    (folder / "loras").mkdir()
    (folder / "loras" / "a.safetensors").write_bytes(b"more")
    assert ModelHashes(tmp_path / "cache").sha256(folder) == before
    (folder / "unet" / "model.safetensors").write_bytes(b"other")
    assert ModelHashes(tmp_path / "cache").sha256(folder) != before
