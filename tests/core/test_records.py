"""What a picture's record says, and what it may make this machine read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.app import App
from sfumato.graph import Graph, GraphBuilder
from sfumato.models.safetensors_file import write_safetensors
from sfumato.paths import Folders
from sfumato.records import FORMAT, adopt, changes, hidden_of, models_of, pictures_of, versions
from sfumato.request import GenerateRequest


@pytest.fixture
def kernel(tmp_path: Path) -> App:
    return App.make(Folders.under(tmp_path / "home"), cpu=True, precision="float32")


def with_picture(name: str) -> Graph:
    build = GraphBuilder()
    build.node("PreviewImage", images=build.node("LoadImage", image=name).out())
    return build.graph()


def with_lora(name: str) -> Graph:
    build = GraphBuilder()
    model = build.node("CheckpointLoaderSimple", ckpt_name="embedded")
    build.node("LoraLoader", model=model.out(0), clip=model.out(1), lora_name=name, strength_model=1.0, strength_clip=1.0)
    return build.graph()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_record_names_versions_machine_models_and_pictures(kernel: App, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a picture")
    kernel.pictures["a.png"] = tmp_path / "a.png"
    request = GenerateRequest("a house", seed=5, image="a.png", width=64, height=64)
    hidden = hidden_of(kernel, kernel.graph_for(request), request)
    record = hidden["record"]
    assert record["format"] == FORMAT
    assert record["versions"] == versions()
    assert record["machine"] == kernel.machine()
    assert list(record["models"]) == ["checkpoints/embedded"]
    assert record["pictures"] == {"a.png": {"path": str(tmp_path / "a.png"), "sha256": sha256(tmp_path / "a.png")}}
    assert GenerateRequest.from_json(record["request"]) == request
    assert hidden["prompt"] == kernel.graph_for(request).to_json()
    assert hidden["parameters"].startswith("a house\nSteps: 20")


def test_embeddings_in_prompts_are_models_too(kernel: App) -> None:
    folder = kernel.folders.models / "embeddings"
    folder.mkdir(parents=True)
    write_safetensors(folder / "charm.safetensors", {"emb_params": np.zeros((1, 8), np.float32)})
    build = GraphBuilder()
    model = build.node("CheckpointLoaderSimple", ckpt_name="embedded")
    build.node("CLIPTextEncode", text="a (embedding:charm:1.2), embedding:missing", clip=model.out(1))
    found = dict(models_of(kernel, build.graph()))
    assert found["embeddings/charm"] == sha256(folder / "charm.safetensors")
    assert "embeddings/missing" not in found


def test_what_is_not_there_is_left_out_of_the_record(kernel: App) -> None:
    assert dict(models_of(kernel, with_lora("nothing.safetensors"))).keys() == {"checkpoints/embedded"}
    assert dict(pictures_of(kernel, with_picture("nothing.png"))) == {}


def test_a_model_in_the_model_folders_is_recorded_without_its_path(kernel: App, tmp_path: Path) -> None:
    (kernel.folders.models / "loras").mkdir(parents=True)
    for place in (kernel.folders.models / "loras" / "inside.safetensors", tmp_path / "outside.safetensors"):
        write_safetensors(place, {"x": np.zeros(1, np.float32)})
    kernel.library.find_path("loras", str(tmp_path / "outside.safetensors"))
    assert hidden_of(kernel, with_lora("inside.safetensors"))["record"]["model_files"] == {}
    outside = hidden_of(kernel, with_lora("outside.safetensors"))["record"]["model_files"]
    assert outside == {"loras/outside.safetensors": str(tmp_path / "outside.safetensors")}


# --- What a record makes this machine read ---------------------------------------------------------------------------------------


def record_of(path: Path, digest: str) -> dict[str, Any]:
    return {"pictures": {"a.png": {"path": str(path), "sha256": digest}}}


def test_a_picture_is_taken_from_where_it_was_if_it_is_still_the_same(kernel: App, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    adopted = adopt(kernel, record_of(path, sha256(path)), with_picture("a.png"))
    assert (adopted.changed, dict(adopted.gone)) == ((), {})
    assert kernel.pictures == {"a.png": path}


@pytest.mark.parametrize("digest", ["0" * 64, "", None, 5, ["x"]])
def test_a_file_that_a_stranger_names_is_not_read_into_a_picture(kernel: App, tmp_path: Path, digest: Any) -> None:
    path = tmp_path / "private.png"
    path.write_bytes(b"private")
    adopted = adopt(kernel, record_of(path, digest), with_picture("a.png"))
    assert dict(adopted.gone) == {"a.png": str(path)}
    assert kernel.pictures == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_ordinary_file_is_not_opened(kernel: App, tmp_path: Path) -> None:
    """A named pipe would be waited for until the end of days."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, Path("\0"), Path("x" * 5000)):
        adopted = adopt(kernel, record_of(path, "0" * 64), with_picture("a.png"))
        assert "a.png" in adopted.gone


def test_a_picture_that_was_moved_is_found_by_its_content(kernel: App) -> None:
    kernel.folders.input.mkdir(parents=True)
    moved = kernel.folders.input / "deep.png"
    moved.write_bytes(b"one")
    adopt(kernel, record_of(Path("/nowhere/a.png"), sha256(moved)), with_picture("a.png"))
    assert kernel.pictures == {"a.png": moved}


def test_a_picture_of_the_same_name_and_other_content_is_told_as_changed(kernel: App) -> None:
    kernel.folders.input.mkdir(parents=True)
    (kernel.folders.input / "a.png").write_bytes(b"another")
    adopted = adopt(kernel, record_of(Path("/nowhere/a.png"), "0" * 64), with_picture("a.png"))
    assert (adopted.changed, dict(adopted.gone)) == (("a.png",), {})


def test_a_model_is_taken_from_where_it_was_if_it_is_still_the_same(kernel: App, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, {"x": np.zeros(1, np.float32)})
    record = {"models": {"loras/mine.safetensors": sha256(path)}, "model_files": {"loras/mine.safetensors": str(path)}}
    adopt(kernel, {**record, "models": {"loras/mine.safetensors": "0" * 64}}, with_lora("mine.safetensors"))
    assert "mine.safetensors" not in kernel.library.names("loras")
    adopt(kernel, record, with_lora("mine.safetensors"))
    assert kernel.library.find("loras", "mine.safetensors").path == path


@pytest.mark.parametrize(
    "record",
    [
        None,
        5,
        [],
        {"pictures": 5},
        {"pictures": {"a.png": 5}},
        {"model_files": {"loras/x": 5, "x": "/etc/passwd", "loras/": "/"}},
        {"models": 1},
    ],
)
def test_a_record_may_be_anything(kernel: App, record: Any) -> None:
    assert set(adopt(kernel, record, with_picture("a.png")).gone) == {"a.png"}
    assert isinstance(changes(record if isinstance(record, dict) else {}, hidden_of(kernel, with_picture("a.png"))["record"]), list)


# --- What has changed ----------------------------------------------------------------------------------------------------------------


def test_nothing_has_changed_between_a_record_and_itself(kernel: App) -> None:
    record = hidden_of(kernel, with_lora("x"))["record"]
    assert changes(record, record) == []


def test_each_change_is_put_into_words(kernel: App) -> None:
    now = hidden_of(kernel, with_lora("x"))["record"]
    then = {
        **now,
        "versions": {**now["versions"], "torch": "0.1", "gone": "1"},
        "machine": {**now["machine"], "threads": 99},
        "models": {"checkpoints/embedded": "other", "loras/not-used-now": "x"},
    }
    words = changes(then, now)
    assert words[0] == f"torch was 0.1, is {now['versions']['torch']}"
    assert "gone was 1, is not there" in words
    assert f"threads was 99, is {now['machine']['threads']}" in words
    assert "the model checkpoints/embedded is not the same file" in words
    assert len(words) == 4
