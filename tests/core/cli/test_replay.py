"""`sfumato replay`: the same pixels again, and in words what has changed where they are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.images import PictureMetadata, read_image, read_metadata, write_image
from sfumato.paths import Folders

Call = Callable[..., Any]
Pixels = Callable[[Path], NDArray[np.uint8]]


def test_a_picture_comes_out_the_same(sfumato: Call, make: Call) -> None:
    ran = sfumato("replay", make(), "--json")
    assert ran.code == 0
    assert ran.json["identical"] is True
    assert (ran.json["pixels"], ran.json["differing_pixels"], ran.json["reasons"]) == (64 * 64, 0, [])
    assert ran.json["seed"] == 7
    assert "bit for bit" in sfumato("replay", make()).out


@pytest.mark.parametrize("ending", ["webp"])
def test_every_lossless_format_comes_out_the_same(sfumato: Call, make: Call, ending: str) -> None:
    assert sfumato("replay", make(f"a.{ending}"), "--json").json["identical"] is True


def test_each_picture_of_a_batch_is_made_again_at_its_place(sfumato: Call, make: Call, tmp_path: Path) -> None:
    make("a.png", "--batch", "2")
    assert [sfumato("replay", tmp_path / f"a-{number}.png", "--json").json["identical"] for number in (1, 2)] == [True, True]


def test_the_new_picture_can_be_written_and_carries_the_same(sfumato: Call, make: Call, tmp_path: Path, pixels: Pixels) -> None:
    old, new = make("a.png"), tmp_path / "new.png"
    ran = sfumato("replay", old, "-o", new, "--json")
    assert ran.json["files"] == [str(new)]
    assert np.array_equal(pixels(new), pixels(old))
    assert read_metadata(new) == read_metadata(old)


def test_the_picture_itself_is_not_overwritten(sfumato: Call, make: Call) -> None:
    path = make()
    ran = sfumato("replay", path, "-o", path)
    assert ran.code == 2
    assert "overwrite" in ran.err


def test_pixels_that_were_edited_are_counted(sfumato: Call, make: Call, pixels: Pixels) -> None:
    path = make()
    edited = pixels(path).copy()
    edited[:8, :8] ^= 1
    edited[0, 0, 0] ^= 64
    write_image(path, edited, read_metadata(path))
    answer = sfumato("replay", path, "--json").json
    assert answer["identical"] is False
    assert answer["differing_pixels"] == 64
    assert 63 <= answer["largest_difference"] <= 65
    assert "edited" in answer["reasons"][0]
    assert "64 of 4,096 pixels differ" in sfumato("replay", path).out


def test_a_picture_that_was_cut_has_another_size(sfumato: Call, make: Call, pixels: Pixels) -> None:
    path = make()
    write_image(path, pixels(path)[:32], read_metadata(path))
    ran = sfumato("replay", path)
    assert ran.code == 0
    assert "the picture is 64x32, the new one 64x64" in ran.out


def test_a_lossy_picture_is_near_and_that_is_said(sfumato: Call, make: Call) -> None:
    answer = sfumato("replay", make("a.jpg"), "--json").json
    assert answer["identical"] is False
    assert answer["mean_difference"] < 3
    assert any("lossy" in reason for reason in answer["reasons"])


def test_what_has_changed_since_is_named(sfumato: Call, make: Call, pixels: Pixels) -> None:
    path = make()
    carried = read_metadata(path)
    record = {**carried.record, "versions": {**carried.record["versions"], "torch": "1.0"}, "rung": "tiled VAE"}
    record["machine"] = {**record["machine"], "hardware": "an abacus"}
    record["models"] = {"checkpoints/embedded": "0" * 64}
    edited = pixels(path).copy()
    edited[0, 0] ^= 255
    write_image(path, edited, PictureMetadata(carried.prompt, carried.workflow, carried.parameters, record))
    reasons = " | ".join(sfumato("replay", path, "--json").json["reasons"])
    assert "torch was 1.0, is" in reasons
    assert "hardware was an abacus, is" in reasons
    assert "the model checkpoints/embedded is not the same file" in reasons
    assert "rung was tiled VAE, is full" in reasons


@pytest.mark.slow
def test_another_precision_is_told_with_the_difference_it_makes(sfumato: Call, make: Call) -> None:
    answer = sfumato("replay", make(), "--precision", "bfloat16", "--json").json
    assert answer["identical"] is False
    assert "precision was float32, is bfloat16" in answer["reasons"]


# --- Pictures and models that it was made from ---------------------------------------------------------------------------------


def test_a_picture_made_from_another_finds_it_where_it_was(sfumato: Call, make: Call, noise: Call, half_mask: Path) -> None:
    path = make("a.png", "--image", noise("source.png"), "--mask", half_mask)
    assert sfumato("replay", path, "--json").json["identical"] is True


@pytest.mark.slow
def test_a_source_that_was_moved_is_found_in_the_input_folder(sfumato: Call, make: Call, noise: Call, home: Folders) -> None:
    source = noise("source.png")
    path = make("a.png", "--image", source)
    home.input.mkdir()
    shutil.move(source, home.input / "under another name.png")
    assert sfumato("replay", path, "--json").json["identical"] is True


def test_a_source_that_is_gone_is_named_with_its_old_place(sfumato: Call, make: Call, noise: Call, home: Folders) -> None:
    source = noise("source.png")
    path = make("a.png", "--image", source)
    source.unlink()
    ran = sfumato("replay", path)
    assert ran.code == 3
    assert str(source) in ran.err
    assert str(home.input) in ran.err


def test_what_a_stranger_names_is_read_only_if_the_hash_is_right(sfumato: Call, make: Call, noise: Call) -> None:
    """Its source is replaced by another picture: that one is not touched, because its maker did not know it."""
    source = noise("source.png")
    path = make("a.png", "--image", source)
    noise("source.png", seed=1)
    ran = sfumato("replay", path)
    assert ran.code == 3
    assert "is not there any more" in ran.err


def test_a_source_in_the_input_folder_that_has_changed_is_used_and_told(sfumato: Call, make: Call, noise: Call, home: Folders) -> None:
    source = noise("source.png")
    path = make("a.png", "--image", source)
    source.unlink()
    home.input.mkdir()
    shutil.move(noise("other.png", seed=1), home.input / "source.png")
    ran = sfumato("replay", path, "--json")
    assert ran.code == 0
    assert ran.json["identical"] is False
    assert "the picture source.png has changed since" in ran.json["reasons"]


@pytest.mark.slow
def test_models_named_by_path_are_found_again(sfumato: Call, make: Call, lora_file: Path, model_folder: Path) -> None:
    path = make("a.png", "--model", model_folder, "--lora", lora_file)
    assert sfumato("replay", path, "--json").json["identical"] is True


@pytest.mark.slow
def test_a_model_by_path_that_has_changed_is_missing(sfumato: Call, make: Call, lora_file: Path) -> None:
    path = make("a.png", "--lora", lora_file)
    lora_file.write_bytes(b"something else")
    ran = sfumato("replay", path)
    assert ran.code == 4
    assert "loras/style.safetensors" in ran.err


# --- Pictures of other tools -----------------------------------------------------------------------------------------------------


def test_a_picture_of_comfyui_is_made_from_its_graph(sfumato: Call, make: Call, pixels: Pixels) -> None:
    """It has no record: neither which node saved it nor which place of the batch it had."""
    path = make()
    write_image(path, pixels(path), PictureMetadata(prompt=read_metadata(path).prompt))
    answer = sfumato("replay", path, "--json").json
    assert answer["identical"] is True
    edited = pixels(path).copy()
    edited[0, 0] ^= 255
    write_image(path, edited, PictureMetadata(prompt=read_metadata(path).prompt))
    assert any("no record of Sfumato" in reason for reason in sfumato("replay", path, "--json").json["reasons"])


@pytest.mark.slow
def test_of_a_batch_of_comfyui_the_nearest_is_taken(sfumato: Call, make: Call, pixels: Pixels, tmp_path: Path) -> None:
    make("a.png", "--batch", "3")
    path = tmp_path / "a-2.png"
    write_image(path, pixels(path), PictureMetadata(prompt=read_metadata(path).prompt))
    assert sfumato("replay", path, "--json").json["identical"] is True


def test_a_picture_with_settings_in_words_is_made_from_these(sfumato: Call, make: Call, pixels: Pixels) -> None:
    path = make()
    write_image(path, pixels(path), PictureMetadata(parameters=read_metadata(path).parameters))
    answer = sfumato("replay", path, "--json").json
    assert answer["identical"] is True
    assert answer["seed"] == 7


def test_what_of_the_words_cannot_be_followed_is_told(sfumato: Call, noise: Call) -> None:
    path = noise("a.png")
    text = (
        "a red circle\nNegative prompt: blue\nSteps: 1, Sampler: Euler a, Schedule type: Automatic, CFG scale: 4, Seed: 3, Size: 64x64, "
        "Model hash: 0123456789, Model: embedded, Denoising strength: 0.5, Hires upscale: 2, Version: v1.10"
    )
    write_image(path, read_image(path), PictureMetadata(parameters=text))
    ran = sfumato("replay", path, "--json")
    assert ran.code == 0, ran.err
    reasons = " | ".join(ran.json["reasons"])
    for words in ("settings in words only", "'Hires upscale' is not known", "made from another picture", "does not begin with 0123456789"):
        assert words in reasons


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a red circle", 3, "no seed or no steps"),
        ("a\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Model: dreamland", 4, "'dreamland'"),
        ("a\nSteps: 20, Sampler: Warp, Seed: 1, Size: 64x64, Model: embedded", 3, "unknown sampler 'Warp'"),
        ("a\nSteps: many, Sampler: Euler, Seed: 1, Model: embedded", 3, "cannot be used"),
        ("a\nSteps: 0, Sampler: Euler, Seed: 1, Model: embedded", 3, "0 is not between 1"),
        ("a <lora:nobody:1>\nSteps: 20, Sampler: Euler, Seed: 1, Model: embedded", 4, "'nobody'"),
    ],
)
def test_words_that_say_too_little_or_too_much(sfumato: Call, noise: Call, text: str, code: int, words: str) -> None:
    path = noise("a.png")
    write_image(path, read_image(path), PictureMetadata(parameters=text))
    ran = sfumato("replay", path)
    assert (ran.code, words in ran.err) == (code, True), ran.err


@pytest.mark.parametrize(
    "record", [None, [], {"target": 5}, {"target": "1", "index": -1}, {"target": "7", "index": 10**9}, "x", {"models": []}]
)
def test_a_record_from_a_stranger_may_say_anything(sfumato: Call, make: Call, pixels: Pixels, record: Any) -> None:
    path = make()
    write_image(path, pixels(path), PictureMetadata(prompt=read_metadata(path).prompt, record=record))
    ran = sfumato("replay", path, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["identical"] is True


def test_a_picture_that_carries_nothing_says_so(sfumato: Call, noise: Call) -> None:
    ran = sfumato("replay", noise("a.png"))
    assert ran.code == 3
    assert "carries nothing of how it was made" in ran.err


def test_a_graph_that_saves_nothing_cannot_be_replayed(sfumato: Call, noise: Call) -> None:
    path = noise("a.png")
    write_image(path, read_image(path), PictureMetadata(prompt={"1": {"class_type": "EmptyImage", "inputs": {}}}))
    ran = sfumato("replay", path)
    assert ran.code == 3
    assert "saves no picture" in ran.err
