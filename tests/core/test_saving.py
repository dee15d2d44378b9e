"""Where saved pictures go, how they are numbered, and what they carry."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import SaveError
from sfumato.images.metadata import read_metadata
from sfumato.request import GenerateRequest, LoraUse
from sfumato.run_folders import RunFolders
from sfumato.saving import metadata_of, next_number, parameters_of, place_for, rung_of, save_images


@dataclass
class Context:
    """As much of a node's context as saving needs."""

    folders: RunFolders
    hidden: dict[str, Any] = field(default_factory=dict)
    node_id: str = "9"
    services: Any = None
    progress: Any = None


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    folders = RunFolders(tmp_path / "input", tmp_path / "output", tmp_path / "temp")
    record = {"seed": 3, "versions": {"sfumato": "0"}}
    hidden = {"prompt": {"1": {"class_type": "X", "inputs": {}}}, "record": record, "parameters": "a tree\nSteps: 3"}
    return Context(folders, hidden | {"extra_pnginfo": {"workflow": {"nodes": []}, "note": {"by": "me"}}})


def grey(count: int = 1, tone: float = 0.5) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full((count, 16, 24, 3), tone, np.float32)


def test_pictures_are_numbered_on_from_those_that_are_there(ctx: Context) -> None:
    first = save_images(ctx, grey(2), "tree", "output")
    second = save_images(ctx, grey(), "tree", "output")
    assert [each["filename"] for each in first["images"] + second["images"]] == ["tree_00001_.png", "tree_00002_.png", "tree_00003_.png"]
    assert sorted(file.name for file in ctx.folders.output.iterdir()) == ["tree_00001_.png", "tree_00002_.png", "tree_00003_.png"]
    assert first["images"][0] == {"filename": "tree_00001_.png", "subfolder": "", "type": "output"}


def test_sub_folders_are_made_and_told(ctx: Context) -> None:
    shown = save_images(ctx, grey(), "trees/old/oak", "temp")
    assert shown["images"] == [{"filename": "oak_00001_.png", "subfolder": "trees/old", "type": "temp"}]
    with Image.open(ctx.folders.temp / "trees/old/oak_00001_.png") as picture:
        assert picture.size == (24, 16)
        assert picture.getpixel((0, 0)) == (128, 128, 128)


def test_the_size_and_the_date_may_stand_in_the_name(ctx: Context) -> None:
    before = time.strftime("%Y%m%d")
    name = save_images(ctx, grey(), "a-%width%x%height%-%date:yyyyMMdd%-%date:hh.mm.ss%", "output")["images"][0]["filename"]
    assert re.fullmatch(r"a-24x16-(\d{8})-\d\d\.\d\d\.\d\d_00001_\.png", name)
    assert before <= name.split("-")[2] <= time.strftime("%Y%m%d")


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/etc/x", "\\\\server\\x", "C:/x", "a\0b", "..", "a/..", "sub\\..\\..\\x"])
def test_a_name_cannot_lead_out_of_the_folder(ctx: Context, prefix: str) -> None:
    with pytest.raises(SaveError):
        save_images(ctx, grey(), prefix, "output")
    assert not ctx.folders.output.exists()


def test_a_name_cannot_lead_out_through_a_link(ctx: Context, tmp_path: Path) -> None:
    ctx.folders.output.mkdir()
    (ctx.folders.output / "link").symlink_to(tmp_path)
    with pytest.raises(SaveError, match="link"):
        save_images(ctx, grey(), "link/x", "output")


@pytest.mark.parametrize("prefix", ["", "/", "./", "\ud800", "x" * 300, "%date:\0%", "%date:\ud800%", "a/" * 3000 + "x", "\ud800/x"])
def test_a_name_that_no_file_can_have_is_a_save_error(ctx: Context, prefix: str) -> None:
    with pytest.raises(SaveError):
        save_images(ctx, grey(), prefix, "output")
    assert not [file for file in ctx.folders.output.rglob("*") if file.is_file()]


def test_a_picture_carries_all_that_made_it(ctx: Context) -> None:
    save_images(ctx, grey(2), "tree", "output")
    carried = read_metadata(ctx.folders.output / "tree_00002_.png")
    assert carried.prompt == ctx.hidden["prompt"]
    assert carried.workflow == {"nodes": []}
    assert carried.parameters == "a tree\nSteps: 3"
    assert carried.record == {"seed": 3, "versions": {"sfumato": "0"}, "rung": "full", "target": "9", "index": 1}
    assert carried.extra == {"note": '{"by": "me"}'}


def test_the_highest_rung_of_the_run_is_carried() -> None:
    assert rung_of(None) == rung_of(SimpleNamespace(rungs=[])) == "full"
    assert rung_of(SimpleNamespace(rungs=["tiled VAE", "unloaded others"])) == "unloaded others"
    assert metadata_of({}, "9", 0, "tiled VAE").record == {"rung": "tiled VAE", "target": "9", "index": 0}


def test_a_picture_may_be_saved_without_what_it_carries(ctx: Context) -> None:
    bare = replace(ctx.folders, how=replace(ctx.folders.how, carry=False))
    save_images(replace(ctx, folders=bare), grey(), "tree", "output")
    assert read_metadata(bare.output / "tree_00001_.png").record in (None, {})


def test_numbers_go_on_after_the_highest_even_past_five_digits(tmp_path: Path) -> None:
    for name in ("a_00007_.png", "a_123456_.webp", "a_b_99999999_.png", "a_12_.png", "other_00050_.png"):
        (tmp_path / name).touch()
    assert next_number(tmp_path, "a") == 123457
    assert next_number(tmp_path, "new") == 1
    assert next_number(tmp_path / "missing", "a") == 1


def test_a_file_where_the_folder_should_be_is_a_save_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError):
        next_number(tmp_path / "file", "a")


def test_a_plain_name_lies_in_the_folder_itself(tmp_path: Path) -> None:
    assert place_for(tmp_path, "tree") == (tmp_path, "tree")
    assert place_for(tmp_path, "a/./b//tree") == (tmp_path / "a" / "b", "tree")


def test_the_line_that_other_tools_read() -> None:
    request = GenerateRequest(
        "a tree", "blurry", "my/model.safetensors", width=128, height=64, steps=7, cfg=3.5, seed=9, loras=(LoraUse("x", 0.5),)
    )
    text = parameters_of(request, "0123456789")
    assert text.splitlines()[0] == "a tree <lora:x:0.5>"
    assert text.splitlines()[1] == "Negative prompt: blurry"
    for part in ("Steps: 7", "CFG scale: 3.5", "Seed: 9", "Size: 128x64", "Model hash: 0123456789", "Model: my/model", "Version: sfumato"):
        assert part in text
    assert "Denoising" not in text
    assert "Denoising strength: 0.4, Clip skip: 2" in parameters_of(replace(request, image="in.png", strength=0.4, clip_skip=2), "")
