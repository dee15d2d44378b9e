"""Models are found by kind and name, and no name leads out of the folders."""

from __future__ import annotations

import builtins
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ModelMissingError
from sfumato.models import EMBEDDED, ModelLibrary
from sfumato.models.layouts import FOLDER_NAMES, folders_of_installation
from sfumato.paths import Folders


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Folders:
    return Folders.under(tmp_path / "home")


@pytest.fixture
def filled(home: Folders) -> ModelLibrary:
    for name in ("sd15.safetensors", "XL/base.safetensors", "XL/refiner.ckpt", "Zoo.SAFETENSORS", "notes.txt", ".hidden.safetensors"):
        touch(home.models / "checkpoints" / name)
    touch(home.models / "checkpoints" / "folder" / "model_index.json")
    touch(home.models / "checkpoints" / "folder" / "unet" / "diffusion_pytorch_model.safetensors")
    touch(home.models / "unet" / "flux.safetensors")
    touch(home.models / "diffusion_models" / "flux.safetensors")
    touch(home.models / "controlnet" / "depth" / "config.json")
    touch(home.models / "controlnet" / "depth" / "model.safetensors")
    return ModelLibrary(home)


def test_names_are_relative_sorted_and_of_models_only(filled: ModelLibrary) -> None:
    expected = [EMBEDDED, "folder", "sd15.safetensors", "XL/base.safetensors", "XL/refiner.ckpt", "Zoo.SAFETENSORS"]
    assert filled.names("checkpoints") == expected


def test_old_names_of_kinds_mean_the_new_ones(filled: ModelLibrary, home: Folders) -> None:
    assert filled.names("unet") == filled.names("diffusion_models") == ["flux.safetensors"]
    assert filled.find("unet", "flux.safetensors").path == home.models / "diffusion_models" / "flux.safetensors"
    assert filled.names("clip") == filled.names("text_encoders")


def test_a_component_folder_is_one_model(filled: ModelLibrary) -> None:
    assert "depth" in filled.names("controlnet") and filled.find("controlnet", "depth").is_folder


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("sd15.safetensors", "sd15.safetensors"),
        ("sd15", "sd15.safetensors"),
        ("SD15", "sd15.safetensors"),
        ("zoo.safetensors", "Zoo.SAFETENSORS"),
        ("xl/base", "XL/base.safetensors"),
        ("XL\\base.safetensors", "XL/base.safetensors"),
        ("base", "XL/base.safetensors"),
        ("base.safetensors", "XL/base.safetensors"),
        ("folder", "folder"),
    ],
)
def test_a_model_is_found_by_what_people_write(filled: ModelLibrary, asked: str, found: str) -> None:
    assert filled.find("checkpoints", asked).name == found


def test_an_unknown_model_says_what_is_near_and_where_it_was_looked_for(filled: ModelLibrary, home: Folders) -> None:
    with pytest.raises(ModelMissingError) as caught:
        filled.find("checkpoints", "sd14.safetensors")
    assert "'sd14.safetensors'" in str(caught.value) and "'sd15.safetensors'" in str(caught.value)
    assert str(home.models / "checkpoints") in str(caught.value) and caught.value.exit_code == 4


def test_a_name_that_fits_several_says_which(filled: ModelLibrary, home: Folders) -> None:
    touch(home.models / "checkpoints" / "other" / "sd15.safetensors")
    assert ModelLibrary(home).find("checkpoints", "sd15.safetensors").name == "sd15.safetensors"
    touch(home.models / "checkpoints" / "more" / "base.ckpt")
    with pytest.raises(ModelMissingError, match="several are alike") as caught:
        ModelLibrary(home).find("checkpoints", "base")
    assert "XL/base.safetensors" in caught.value.remedy and "more/base.ckpt" in caught.value.remedy


def test_an_unknown_kind_says_the_kinds(filled: ModelLibrary) -> None:
    with pytest.raises(ModelMissingError, match="'hypernetworks'") as caught:
        filled.names("hypernetworks")
    assert "loras" in caught.value.remedy


def test_the_embedded_model_is_always_there(home: Folders) -> None:
    library = ModelLibrary(home)
    found = library.find("checkpoints", EMBEDDED)
    assert (found.path / "model_index.json").is_file() and found.is_folder and found.stem == EMBEDDED
    assert library.names("checkpoints") == [EMBEDDED]


def test_companions_of_the_embedded_model_are_found_after_the_users_own(
    home: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours" / "loras" / "ink.safetensors"
    monkeypatch.setattr("sfumato_resources.embedded_files", lambda kind: {"ink.safetensors": ours} if kind == "loras" else {})
    assert ModelLibrary(home).find("loras", "ink").path == ours
    assert ModelLibrary(home).names("loras") == ["embedded/ink.safetensors"]
    own = touch(home.models / "loras" / "Ink.safetensors")
    assert ModelLibrary(home).find("loras", "ink").path == own
    assert ModelLibrary(home).find("loras", "embedded/ink").path == ours


ESCAPES = [
    "../secret.safetensors",
    "..",
    "",
    ".",
    "XL/../../secret.safetensors",
    "/etc/passwd",
    "C:\\secret",
    "\0",
    "\ud800",
    "x" * 100_000,
    "*",
    "XL",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out_of_the_folders(filled: ModelLibrary, home: Folders, name: str) -> None:
    touch(home.models / "secret.safetensors")
    with pytest.raises(ModelMissingError) as caught:
        filled.find("checkpoints", name)
    assert len(str(caught.value)) < 2000


def test_an_absolute_path_is_no_name_even_inside(filled: ModelLibrary, home: Folders) -> None:
    with pytest.raises(ModelMissingError):
        filled.find("checkpoints", str(home.models / "checkpoints" / "sd15.safetensors"))


@settings(max_examples=80, deadline=None)
@given(name=st.text(max_size=30) | st.text("./\\ sd15XLbase", max_size=25))
def test_whatever_is_found_lies_in_a_folder_of_its_kind(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    home = Folders.under(tmp_path_factory.getbasetemp() / "escape")
    touch(home.models / "secret.safetensors")
    touch(home.models / "loras" / "XL" / "base.safetensors")
    touch(home.models / "loras" / "sd15.safetensors")
    try:
        found = ModelLibrary(home).find("loras", name)
    except ModelMissingError:
        return
    assert found.path.resolve().is_relative_to((home.models / "loras").resolve()) or found.name.startswith("embedded/")


def test_the_users_path_is_taken_where_one_may_be_given(filled: ModelLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = touch(tmp_path / "elsewhere" / "mine.safetensors")
    assert filled.find_path("checkpoints", str(path)).path == path
    monkeypatch.chdir(path.parent)
    touch(path.parent / EMBEDDED)
    assert filled.find_path("checkpoints", "mine.safetensors").path == path
    assert filled.find_path("checkpoints", EMBEDDED).is_folder
    assert filled.find_path("checkpoints", "sd15").name == "sd15.safetensors"
    for name in ("missing", "\0", "x" * 5000):
        with pytest.raises(ModelMissingError):
            filled.find_path("checkpoints", name)


def test_links_of_the_user_are_followed_and_loops_end(home: Folders, tmp_path: Path) -> None:
    touch(tmp_path / "disk" / "big.safetensors")
    folder = home.models / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "disk").symlink_to(tmp_path / "disk")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.safetensors").symlink_to(tmp_path / "nothing")
    assert "disk/big.safetensors" in ModelLibrary(home).names("checkpoints")
    assert not any("loop/loop" in name for name in ModelLibrary(home).names("checkpoints"))


def test_a_name_that_is_no_text_is_left_out(home: Folders) -> None:
    touch(home.models / "loras" / "good.safetensors")
    touch(Path(os.fsdecode(os.fsencode(home.models / "loras") + b"/\xff\xfe.safetensors")))
    assert [name for name in ModelLibrary(home).names("loras") if not name.startswith("embedded/")] == ["good.safetensors"]


def test_a_new_file_is_seen_at_once(filled: ModelLibrary, home: Folders) -> None:
    before = filled.names("checkpoints")
    touch(home.models / "checkpoints" / "XL" / "new.safetensors")
    assert set(filled.names("checkpoints")) - set(before) == {"XL/new.safetensors"}
    (home.models / "checkpoints" / "XL" / "new.safetensors").unlink()
    assert filled.names("checkpoints") == before


def test_a_settled_folder_is_listed_once_and_again_after_a_change(
    filled: ModelLibrary, home: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home.models / "checkpoints"
    then = time.time() - 100
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        os.utime(each, (then, then))
    filled.names("checkpoints")
    scans: list[Any] = []
    real = os.scandir

    def scan(path: Any) -> Any:
        scans.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    names = filled.names("checkpoints")
    assert scans == []
    touch(folder / "XL" / "new.safetensors")
    assert set(filled.names("checkpoints")) - set(names) == {"XL/new.safetensors"} and scans


def test_listing_opens_no_file(filled: ModelLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    assert all(filled.names(kind) is not None for kind in filled.kinds)


def test_installations_of_others_are_understood(tmp_path: Path, home: Folders) -> None:
    a1111, comfy, bare = tmp_path / "webui", tmp_path / "ComfyUI", tmp_path / "shared"
    touch(a1111 / "models" / "Stable-diffusion" / "v1.safetensors")
    touch(a1111 / "models" / "Lora" / "style.safetensors")
    touch(a1111 / "embeddings" / "bad.pt")
    touch(comfy / "models" / "checkpoints" / "v2.safetensors")
    touch(bare / "checkpoints" / "v3.safetensors")
    extra: dict[str, list[Path]] = {}
    for root in (a1111, comfy, bare):
        for kind, folders in folders_of_installation(root).items():
            extra.setdefault(kind, []).extend(folders)
    library = ModelLibrary(home, extra)
    assert {"v1.safetensors", "v2.safetensors", "v3.safetensors"} <= set(library.names("checkpoints"))
    assert "style.safetensors" in library.names("loras") and "bad.pt" in library.names("embeddings")
    assert library.find("checkpoints", "v1").path.is_relative_to(a1111)
    assert set(library.kinds) == set(FOLDER_NAMES)


def test_the_users_own_folder_wins_over_extra_ones(tmp_path: Path, home: Folders) -> None:
    own, other = touch(home.models / "vae" / "a.safetensors"), touch(tmp_path / "more" / "a.safetensors")
    assert ModelLibrary(home, {"vae": [other.parent]}).find("vae", "a").path == own
    own.unlink()
    assert ModelLibrary(home, {"vae": [other.parent]}).find("vae", "a").path == other


@pytest.mark.slow
def test_ten_thousand_models_are_listed_in_a_moment(home: Folders) -> None:
    for i in range(10_000):
        touch(home.models / "loras" / f"{i % 100}" / f"{i}.safetensors", b"")
    library = ModelLibrary(home)
    assert len(library.names("loras")) >= 10_000
    start = time.process_time()
    library.find("loras", "9999")
    assert time.process_time() - start < 2
