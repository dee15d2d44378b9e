"""`sfumato run`: workflows from files and pictures, checked, changed and run output by output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sfumato.graph import Graph, GraphBuilder
from sfumato.images import PictureMetadata, read_metadata, write_image
from sfumato.paths import Folders

Call = Callable[..., Any]
Pixels = Callable[[Path], NDArray[np.uint8]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(graph)`: a workflow file."""

    def save(graph: Graph, name: str = "workflow.json", **more: Any) -> Path:
        body: Any = graph.to_json()
        (tmp_path / name).write_text(json.dumps({"prompt": body, **more} if more else body))
        return tmp_path / name

    return save


def colour(build: GraphBuilder, prefix: str = "blue", number: int = 255) -> None:
    """A picture of one colour, saved under `prefix`."""
    picture = build.node("EmptyImage", None, f"{prefix} picture", width=64, height=64, batch_size=1, color=number)
    build.node("SaveImage", None, f"save {prefix}", images=picture.out(), filename_prefix=prefix)


# --- What comes out -------------------------------------------------------------------------------------------------------


def test_files_go_to_the_output_folder_and_previews_to_the_temporary_one(sfumato: Call, write: Call, home: Folders) -> None:
    build = GraphBuilder()
    colour(build)
    build.node("PreviewImage", images=build.node("EmptyImage", width=16, height=16, batch_size=2, color=0).out())
    ran = sfumato("run", write(build.graph()), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["files"] == [str(home.output / "blue_00001_.png")]
    assert [Path(path).parent for path in ran.json["previews"]] == [home.temp, home.temp]
    assert all(Path(path).is_file() for path in ran.json["files"] + ran.json["previews"])
    assert ran.json["errors"] == []


def test_the_output_folder_can_be_named(sfumato: Call, write: Call, tmp_path: Path) -> None:
    build = GraphBuilder()
    colour(build, "deep/er/blue")
    (tmp_path / "mine").mkdir()
    ran = sfumato("run", write(build.graph()), "--output-dir", tmp_path / "mine")
    assert ran.out.strip() == str(tmp_path / "mine" / "deep" / "er" / "blue_00001_.png")


@pytest.mark.parametrize("prefix", ["../escaped", "/escaped", "a/../../escaped", "C:escaped"])
def test_a_workflow_does_not_leave_the_output_folder(sfumato: Call, write: Call, tmp_path: Path, prefix: str) -> None:
    build = GraphBuilder()
    colour(build, prefix)
    ran = sfumato("run", write(build.graph()), "--json")
    assert ran.code == 1
    assert "leads out of the output folder" in ran.err
    assert list(tmp_path.rglob("*escaped*")) == []


def test_pictures_are_found_in_the_input_folder_and_nowhere_else(
    sfumato: Call, write: Call, home: Folders, noise: Call, tmp_path: Path, pixels: Pixels
) -> None:
    source = noise("secret.png")
    build = GraphBuilder()
    build.node("SaveImage", images=build.node("LoadImage", image="secret.png").out(), filename_prefix="x")
    assert sfumato("run", write(build.graph())).code == 3
    for name in (str(source), "../../secret.png"):
        assert sfumato("run", write(Graph({**build.graph().nodes}), "w.json"), "--set", f"1.image={name}x").code == 3
    home.input.mkdir()
    (home.input / "secret.png").write_bytes(source.read_bytes())
    ran = sfumato("run", write(build.graph()), "--json")
    assert np.array_equal(pixels(Path(ran.json["files"][0])), pixels(source))


def test_the_seed_that_ran_is_told(sfumato: Call, make: Call) -> None:
    assert sfumato("run", make(), "--json").json["seed"] == 7
    assert sfumato("run", make(), "--set", "KSampler.seed=8", "--json").json["seed"] == 8


# --- What is wrong ---------------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_run_does_not_stop_one_that_can(sfumato: Call, write: Call) -> None:
    build = GraphBuilder()
    colour(build)
    build.node("SaveImage", images=build.node("LoadImage", image="nothing.png").out(), filename_prefix="x")
    ran = sfumato("run", write(build.graph()), "--json")
    assert ran.code == 3
    assert [Path(path).name for path in ran.json["files"]] == ["blue_00001_.png"]
    assert [(error["node_id"], error["input_name"]) for error in ran.json["errors"]] == [("3", "image")]
    assert "'nothing.png'" in ran.err


def test_an_output_that_fails_while_it_runs_does_not_stop_the_others(sfumato: Call, write: Call, home: Folders) -> None:
    """The broken picture is found only when it is opened; the outputs before and behind it are made."""
    home.input.mkdir()
    (home.input / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    build = GraphBuilder()
    colour(build, "first")
    build.node("SaveImage", images=build.node("LoadImage", image="broken.png").out(), filename_prefix="x")
    colour(build, "last")
    ran = sfumato("run", write(build.graph()), "--json")
    assert ran.code == 3
    assert sorted(Path(path).name for path in ran.json["files"]) == ["first_00001_.png", "last_00001_.png"]
    (error,) = ran.json["errors"]
    assert error["kind"] == "ImageFileError"
    assert "broken.png" in error["where"]
    assert "node 3 (LoadImage)" in error["where"]


def test_when_nothing_can_be_done_there_is_one_error(sfumato: Call, write: Call, home: Folders) -> None:
    home.input.mkdir()
    (home.input / "broken.png").write_bytes(b"")
    build = GraphBuilder()
    build.node("SaveImage", images=build.node("LoadImage", image="broken.png").out(), filename_prefix="x")
    ran = sfumato("run", write(build.graph()), "--json")
    assert ran.code == 3
    assert "the file is empty" in ran.json["error"]["what"]


def test_only_models_missing_is_exit_code_4(sfumato: Call, write: Call) -> None:
    build = GraphBuilder()
    model = build.node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors")
    latent = build.node("EmptyLatentImage", width=64, height=64, batch_size=1)
    build.node("PreviewImage", images=build.node("VAEDecode", samples=latent.out(), vae=model.out(2)).out())
    for more in ((), ("--check",)):
        ran = sfumato("run", write(build.graph()), *more)
        assert ran.code == 4
        assert "checkpoints/" in ran.err + ran.out
        assert "sd15.safetensors" in ran.err + ran.out


# --- --check -----------------------------------------------------------------------------------------------------------------


def test_a_check_lists_everything_and_runs_nothing(sfumato: Call, write: Call, home: Folders) -> None:
    build = GraphBuilder()
    colour(build)
    model = build.node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors")
    text = build.node("CLIPTextEncode", text="a house, embedding:easynegative", clip=model.out(1))
    build.node("NobodysNode", anything=text.out())
    build.node("NobodysNode", anything=text.out())
    picture = build.node("ImageScaleBy", image=build.node("EmptyImage", width=0, height=16, batch_size=1, color=0).out(), scale_by=1)
    build.node("PreviewImage", images=build.node("VAEDecode", samples=picture.out(), vae=model.out(2)).out())
    ran = sfumato("run", write(build.graph()), "--check", "--json")
    assert ran.code == 3
    assert list(ran.json) == ["missing_nodes", "missing_models", "errors"]
    assert ran.json["missing_nodes"] == [{"type": "NobodysNode", "nodes": ["5", "6"]}]
    assert {(each["kind"], each["name"]) for each in ran.json["missing_models"]} == {
        ("checkpoints", "sd15.safetensors"),
        ("embeddings", "easynegative"),
    }
    assert {each["type"] for each in ran.json["errors"]} == {
        "value_smaller_than_min",
        "required_input_missing",
        "return_type_mismatch",
    }
    assert not home.output.exists()


def test_a_check_of_what_can_run_says_so(sfumato: Call, make: Call) -> None:
    ran = sfumato("run", make(), "--check")
    assert (ran.code, ran.out) == (0, "nothing is missing: the workflow can run\n")
    assert sfumato("run", make(), "--check", "--json").json == {"missing_nodes": [], "missing_models": [], "errors": []}


# --- --set -------------------------------------------------------------------------------------------------------------------


def test_inputs_are_changed_by_id_title_or_type(sfumato: Call, write: Call, tmp_path: Path, pixels: Pixels) -> None:
    build = GraphBuilder()
    colour(build)
    words = ("--set", "1.color=65280", "--set", "blue picture.width=32", "--set", "SaveImage.filename_prefix=green")
    ran = sfumato("run", write(build.graph()), *words, "--json")
    assert ran.code == 0, ran.err
    picture = pixels(Path(ran.json["files"][0]))
    assert Path(ran.json["files"][0]).name == "green_00001_.png"
    assert picture.shape == (64, 32, 3)
    assert (picture == [0, 255, 0]).all()


def test_a_text_stays_a_text_and_a_link_becomes_one(sfumato: Call, write: Call, home: Folders) -> None:
    build = GraphBuilder()
    colour(build)
    other = build.node("EmptyImage", width=24, height=24, batch_size=1, color=0)
    ran = sfumato("run", write(build.graph()), "--set", "2.filename_prefix=123", "--set", f'2.images=["{other.id}", 0]', "--json")
    assert ran.json["files"] == [str(home.output / "123_00001_.png")]
    assert read_metadata(home.output / "123_00001_.png").prompt["2"]["inputs"] == {"images": ["3", 0], "filename_prefix": "123"}


def test_a_picture_and_a_model_may_be_named_by_path(sfumato: Call, write: Call, noise: Call, pixels: Pixels, model_folder: Path) -> None:
    source = noise("some.png")
    build = GraphBuilder()
    picture = build.node("LoadImage", image="to be set")
    model = build.node("CheckpointLoaderSimple", ckpt_name="to be set")
    latent = build.node("VAEEncode", pixels=picture.out(), vae=model.out(2))
    build.node("PreviewImage", images=build.node("VAEDecode", samples=latent.out(), vae=model.out(2)).out())
    build.node("SaveImage", images=picture.out(), filename_prefix="x")
    ran = sfumato("run", write(build.graph()), "--set", f"LoadImage.image={source}", "--set", f"2.ckpt_name={model_folder}", "--json")
    assert ran.code == 0, ran.err
    assert np.array_equal(pixels(Path(ran.json["files"][0])), pixels(source))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.color", "is not NODE.INPUT=VALUE"),
        ("=1", "is not NODE.INPUT=VALUE"),
        ("9.color=1", "there is no node '9'"),
        ("EmptyImage.color=1", "2 nodes are called 'EmptyImage'"),
        ("1.colour=1", "EmptyImage has no input 'colour'"),
        ("1.color=red", "'red' is no INT"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(sfumato: Call, write: Call, text: str, words: str) -> None:
    build = GraphBuilder()
    colour(build)
    colour(build, "second")
    ran = sfumato("run", write(build.graph()), "--set", text)
    assert ran.code == 2
    assert words in ran.err


# --- Where workflows come from -----------------------------------------------------------------------------------------------


def test_a_picture_carries_its_workflow(sfumato: Call, make: Call, pixels: Pixels) -> None:
    generated = make()
    ran = sfumato("run", generated, "--json")
    assert np.array_equal(pixels(Path(ran.json["files"][0])), pixels(generated))


def test_the_editors_form_in_the_body_of_a_request_travels_along(sfumato: Call, write: Call) -> None:
    build = GraphBuilder()
    colour(build)
    editor = {"nodes": [], "links": [], "version": 0.4}
    ran = sfumato("run", write(build.graph(), extra_data={"extra_pnginfo": {"workflow": editor}}), "--json")
    assert read_metadata(Path(ran.json["files"][0])).workflow == editor


def test_the_editors_form_follows_a_change(sfumato: Call, write: Call, tmp_path: Path) -> None:
    build = GraphBuilder()
    colour(build)
    first = Path(sfumato("run", write(build.graph()), "--json").json["files"][0])
    carried = read_metadata(first).workflow
    assert [255 in node["widgets_values"] for node in carried["nodes"] if node["type"] == "EmptyImage"] == [True]
    (tmp_path / "editor.json").write_text(json.dumps(carried))
    second = Path(sfumato("run", tmp_path / "editor.json", "--set", "1.color=77", "--json").json["files"][0])
    changed = read_metadata(second).workflow
    assert [77 in node["widgets_values"] for node in changed["nodes"] if node["type"] == "EmptyImage"] == [True]


def test_a_picture_of_a_changed_workflow_carries_no_request_of_old(sfumato: Call, make: Call) -> None:
    ran = sfumato("run", make(), "--set", "KSampler.seed=9", "--json")
    carried = read_metadata(Path(ran.json["files"][0]))
    assert "request" not in carried.record
    assert carried.parameters == ""


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (PictureMetadata(), "carries no workflow"),
        (PictureMetadata(parameters="a cat\nSteps: 20, Seed: 1"), "sfumato replay"),
        (PictureMetadata(workflow={"nodes": [], "links": []}), "no output node"),
    ],
)
def test_a_picture_without_a_workflow_says_what_it_has(sfumato: Call, tmp_path: Path, metadata: PictureMetadata, words: str) -> None:
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8), metadata)
    ran = sfumato("run", tmp_path / "a.png")
    assert ran.code == 3
    assert str(tmp_path / "a.png") in ran.err
    assert words in ran.err
