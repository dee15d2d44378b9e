"""`sfumato models`: listing, adding, looking into files, and whether they are still good."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251  the tests write such files, to see that they are not opened
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.paths import Folders

Call = Callable[..., Any]


def flip(path: Path, at: int = -1) -> None:
    """Change one byte and nothing else: neither size nor date."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- list --------------------------------------------------------------------------------------------------------------------------


def test_the_embedded_model_is_listed_as_what_ships(sfumato: Call) -> None:
    listed = sfumato("models", "list", "checkpoints", "--json").json["models"]
    assert [(model["kind"], model["name"], model["source"]) for model in listed] == [("checkpoints", "embedded", "ships with Sfumato")]
    assert "ships with Sfumato" in sfumato("models").out


def test_ones_own_and_those_of_other_installations_are_told_apart(sfumato: Call, home: Folders, tmp_path: Path, lora_file: Path) -> None:
    mine, comfy, a1111 = home.models / "loras", tmp_path / "ComfyUI" / "models" / "loras", tmp_path / "webui" / "models" / "Lora"
    for folder in (mine, comfy, a1111, tmp_path / "ComfyUI/models/checkpoints", tmp_path / "webui/models/Stable-diffusion"):
        folder.mkdir(parents=True)
    for number, folder in enumerate((mine, comfy, a1111)):
        shutil.copy(lora_file, folder / f"{number}.safetensors")
    roots = json.dumps([str(tmp_path / "ComfyUI"), str(tmp_path / "webui"), str(tmp_path / "nowhere")])
    home.settings_file.write_text(f"[models]\nfolders = {roots}\n")
    listed = {model["name"]: model["source"] for model in sfumato("models", "list", "loras", "--json").json["models"]}
    assert {name: listed[name] for name in ("0.safetensors", "1.safetensors", "2.safetensors")} == {
        "0.safetensors": "yours",
        "1.safetensors": str(comfy / "1.safetensors"),
        "2.safetensors": str(a1111 / "2.safetensors"),
    }


def test_an_unknown_kind_is_bad_usage(sfumato: Call) -> None:
    assert sfumato("models", "list", "spells").code == 2


# --- add --------------------------------------------------------------------------------------------------------------------------


def test_a_file_is_copied_to_where_its_kind_belongs(sfumato: Call, home: Folders, lora_file: Path) -> None:
    ran = sfumato("models", "add", lora_file, "--json")
    assert ran.code == 0, ran.err
    there = home.models / "loras" / "style.safetensors"
    assert ran.json["path"] == str(there)
    assert ran.json["is_new"] is True
    assert there.read_bytes() == lora_file.read_bytes()
    assert "a LoRA of rank 2" in ran.json["reason"]
    assert sfumato("models", "add", lora_file, "--json").json["is_new"] is False


def test_a_folder_is_copied_without_what_a_model_does_not_need(sfumato: Call, home: Folders, model_folder: Path) -> None:
    (model_folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    (model_folder / "run_me.py").write_text("raise SystemExit")
    ran = sfumato("models", "add", model_folder, "--name", "copy", "--json")
    assert ran.code == 0, ran.err
    there = home.models / "checkpoints" / "copy"
    assert sorted(ran.json["left_out"]) == ["run_me.py", "unet/diffusion_pytorch_model.bin"]
    names = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert names == {p.relative_to(model_folder).as_posix() for p in model_folder.rglob("*") if p.is_file()} - set(ran.json["left_out"])
    assert "copy" in [model["name"] for model in sfumato("models", "list", "--json").json["models"]]
    assert [path.name for path in there.parent.iterdir()] == ["copy"]


def test_another_model_of_the_same_name_is_not_overwritten(sfumato: Call, home: Folders, lora_file: Path) -> None:
    assert sfumato("models", "add", lora_file).code == 0
    first = lora_file.read_bytes()
    lora_file.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    ran = sfumato("models", "add", lora_file)
    assert ran.code == 2
    assert "--name" in ran.err
    assert (home.models / "loras" / "style.safetensors").read_bytes() == first
    assert sfumato("models", "add", lora_file, "--name", "second").code == 0
    assert (home.models / "loras" / "second.safetensors").is_file()


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.safetensors"])
def test_a_pickled_file_is_refused_and_nothing_in_it_runs(sfumato: Call, home: Folders, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "it ran"
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb(marker)))
    for words in (("add",), ("info",)):
        ran = sfumato("models", *words, tmp_path / name)
        assert ran.code == 3
        assert "pickled" in ran.err
    ran = sfumato("generate", "x", "--model", tmp_path / name)
    assert ran.code == 3
    assert not marker.exists()
    assert not (home.models / "checkpoints").exists()
    pickle.loads((tmp_path / name).read_bytes())  # noqa: S301  the bomb is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"", "the file is empty"),
        ("a.safetensors", b"<!DOCTYPE html><html>", "this is a web page"),
        ("a.safetensors", (100).to_bytes(8, "little") + b'{"a"', "the file is cut off"),
        ("a.safetensors", b"\0" * 1000, "nothing but zeros"),
    ],
)
def test_what_is_no_model_is_named(sfumato: Call, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    ran = sfumato("models", "add", tmp_path / name)
    assert ran.code == 3
    assert words in ran.err


def test_a_file_that_does_not_tell_its_kind_needs_it_said(sfumato: Call, home: Folders, tmp_path: Path) -> None:
    import numpy as np

    from sfumato.models.safetensors_file import write_safetensors

    write_safetensors(tmp_path / "odd.safetensors", {"a.b.c": np.zeros((2, 2, 2), np.float32)})
    ran = sfumato("models", "add", tmp_path / "odd.safetensors")
    assert ran.code == 3
    assert "--kind" in ran.err
    assert sfumato("models", "add", tmp_path / "odd.safetensors", "--kind", "vae").code == 0
    assert (home.models / "vae" / "odd.safetensors").is_file()


@pytest.mark.parametrize("name", ["../escaped", "a/b", ".hidden", "tab\tbed"])
def test_a_name_that_is_none_is_refused(sfumato: Call, lora_file: Path, name: str) -> None:
    assert sfumato("models", "add", lora_file, "--name", name).code == 2


def test_what_is_not_there_cannot_be_added(sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("models", "add", tmp_path / "nothing.safetensors")
    assert ran.code == 3
    assert "there is no such file" in ran.err


# --- info ------------------------------------------------------------------------------------------------------------------------


def test_a_file_says_what_it_is_and_why(sfumato: Call, lora_file: Path) -> None:
    answer = sfumato("models", "info", lora_file, "--json").json
    assert answer["kind"] == "lora"
    assert "rank 2" in answer["reason"]
    assert answer["tensors"] == 4
    assert answer["bytes"] == lora_file.stat().st_size
    assert answer["parameters"]["F32"] > 0
    assert len(answer["sha256"]) == 64
    assert answer["sha256"][:10] in sfumato("models", "info", lora_file).out


def test_a_model_says_it_by_name_too(sfumato: Call) -> None:
    answer = sfumato("models", "info", "embedded", "--json").json
    assert (answer["kind"], answer["family"]) == ("checkpoint", "sd1")


# --- verify ----------------------------------------------------------------------------------------------------------------------


def test_good_models_are_good(sfumato: Call, lora_file: Path) -> None:
    assert sfumato("models", "add", lora_file).code == 0
    ran = sfumato("models", "verify", "--json")
    assert ran.code == 0
    assert {model["state"] for model in ran.json["models"]} == {"good"}
    assert ran.json["duplicates"] == []


def test_a_byte_that_the_disk_has_lost_is_noticed(sfumato: Call, home: Folders, lora_file: Path) -> None:
    assert sfumato("models", "add", lora_file).code == 0
    flip(home.models / "loras" / "style.safetensors")
    for _ in range(2):  # it does not get used to it
        ran = sfumato("models", "verify", "style", "--json")
        assert ran.code == 3
        assert ran.json["models"][0]["state"] == "changed"


def test_a_damaged_file_and_a_pickled_one_are_told_and_the_rest_is_verified(sfumato: Call, home: Folders, lora_file: Path) -> None:
    assert sfumato("models", "add", lora_file).code == 0
    (home.models / "loras" / "cut.safetensors").write_bytes(lora_file.read_bytes()[:-5])
    (home.models / "loras" / "old.pt").write_bytes(pickle.dumps({}))
    ran = sfumato("models", "verify", "--json")
    states = {model["name"]: model["state"] for model in ran.json["models"]}
    assert ran.code == 3
    assert states["style.safetensors"] == "good"
    assert states["cut.safetensors"] == states["old.pt"] == "unusable"
    assert "cut off" in sfumato("models", "verify", "cut").out


def test_the_same_bytes_twice_are_told(sfumato: Call, home: Folders, lora_file: Path) -> None:
    for name in ("one", "two"):
        assert sfumato("models", "add", lora_file, "--name", name).code == 0
    folder = home.models / "loras"
    expected = [[str(folder / "one.safetensors"), str(folder / "two.safetensors")]]
    assert sfumato("models", "verify", "--json").json["duplicates"] == expected
