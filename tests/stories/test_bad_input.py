"""Whatever a user types or a stranger sends: one clear message that names place and remedy, the right exit code, no traceback, no litter.

The commands are real ones; many share a process, because starting one costs seconds.
"""

from __future__ import annotations

import json
import pickle  # noqa: TID251  to see that such files are not opened
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.images import write_image
from sfumato.models.safetensors_file import write_safetensors


@dataclass(frozen=True)
class Case:
    """A command, the exit code it has to give, and what the message has to name."""

    name: str
    words: tuple[str, ...]
    code: int
    named: tuple[str, ...]


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


_PICTURE = _node("EmptyImage", width=16, height=16, batch_size=1, color=0)
_SAVE = _node("SaveImage", images=["1", 0], filename_prefix="x")
_WORKFLOWS: dict[str, Any] = {
    "circle": {"1": _node("ImageInvert", image=["2", 0]), "2": _node("ImageInvert", image=["1", 0]), "3": _SAVE},
    "no_input": {"1": _node("ImageInvert"), "2": _SAVE},
    "wrong_type": {"1": _PICTURE, "2": _node("VAEDecode", samples=["1", 0], vae=["1", 0]), "3": _node("PreviewImage", images=["2", 0])},
    "dangling": {"2": _node("SaveImage", images=["nowhere", 0], filename_prefix="x")},
    "no_such_output": {"1": _PICTURE, "2": _node("SaveImage", images=["1", 7], filename_prefix="x")},
    "unknown_node": {"1": _node("KSampel"), "2": _SAVE},
    "no_output": {"1": _PICTURE},
    "huge_value": {"1": _node("EmptyImage", width=10**30, height=16, batch_size=1, color=0), "2": _SAVE},
    "outside": {"1": _PICTURE, "2": _node("SaveImage", images=["1", 0], filename_prefix="../../x")},
}
_TEXTS = {
    "no_json": "{this is no JSON",
    "empty": "",
    "not_a_number": json.dumps({"1": _node("EmptyImage", width=16, height=16, batch_size=1, color=float("nan")), "2": _SAVE}),
    "half_character": json.dumps({"1": _PICTURE, "2": _node("SaveImage", images=["1", 0], filename_prefix="\ud83d")}),
    "deep": '{"1":' * 5000 + "{}" + "}" * 5000,
    "list": "[1, 2, 3]",
    "null": "null",
}

LIGHT = [
    Case("unknown model", ("generate", "x", "--model", "dreamland"), 4, ("'dreamland'", "sfumato models list")),
    Case("unknown sampler", ("generate", "x", "--sampler", "euler_anc"), 2, ("'euler_anc'", "Did you mean euler_ancestral")),
    Case("unknown schedule", ("generate", "x", "--schedule", "karas"), 2, ("'karas'", "Did you mean karras")),
    Case("seed below zero", ("generate", "x", "--seed", "-1"), 2, ("seed: -1",)),
    Case("no steps", ("generate", "x", "--steps", "0"), 2, ("steps: 0",)),
    Case("too many pictures", ("generate", "x", "--batch", "10000"), 2, ("batch: 10000",)),
    Case("negative size", ("generate", "x", "--width", "-8"), 2, ("width: -8", "Use 16")),
    Case("odd size", ("generate", "x", "--width", "250"), 2, ("width: 250 is no multiple of 8", "Use 248")),
    Case("a size that is no number", ("generate", "x", "--width", "wide"), 2, ("'wide'", "--help")),
    Case("a mask of another size", ("generate", "x", "--image", "a.png", "--mask", "small.png"), 2, ("8x8", "16x16", "small.png")),
    Case("a picture that is none", ("generate", "x", "--image", "no_json.json"), 3, ("no_json.json", "this is a JSON file")),
    Case("a picture that is not there", ("generate", "x", "--image", "gone.png"), 3, ("gone.png", "Check the path")),
    Case("a damaged model", ("generate", "x", "--model", "damaged.safetensors"), 3, ("damaged.safetensors", "get it again")),
    Case("a cut model", ("generate", "x", "--lora", "cut.safetensors"), 3, ("cut.safetensors", "cut off")),
    Case("a pickled model", ("generate", "x", "--model", "pickled.ckpt"), 3, ("pickled.ckpt", "runs code when opened")),
    Case("a pickled model to add", ("models", "add", "pickled.ckpt"), 3, ("pickled.ckpt", "runs code when opened")),
    Case("a pickled model to look at", ("models", "info", "pickled.ckpt"), 3, ("pickled.ckpt", "runs code when opened")),
    Case("a folder that is missing", ("generate", "x", "-o", "missing/a.png"), 2, ("missing", "Make it first")),
    Case("a folder that is a file", ("generate", "x", "-o", "a.png/b.png"), 2, ("a.png",)),
    Case("a file that is a folder", ("generate", "x", "-o", "folder.png"), 2, ("folder.png", "this is a folder")),
    Case("an ending that is no format", ("generate", "x", "-o", "a.gif"), 2, ("'.gif'", ".png")),
    Case("an ending of tomorrow", ("generate", "x", "-o", "a.ora"), 2, ("'.ora'", ".png")),
    Case("an output folder that is a file", ("run", "good.json", "--output-dir", "a.png"), 2, ("a.png", "a file, not a folder")),
    Case("an output folder that is missing", ("run", "good.json", "--output-dir", "missing"), 2, ("missing", "Make the folder")),
    Case("a workflow that is not there", ("run", "gone.json"), 3, ("gone.json", "Check the path")),
    Case("a workflow that is a folder", ("run", "folder.png"), 3, ("folder.png",)),
    Case("a workflow that is no JSON", ("run", "no_json.json"), 3, ("no_json.json", "line 1, column 2")),
    Case("an empty workflow", ("run", "empty.json"), 3, ("empty.json", "no JSON")),
    Case("a workflow of bytes", ("run", "damaged.safetensors"), 3, ("damaged.safetensors",)),
    Case("a list for a workflow", ("run", "list.json"), 3, ("list.json", "object of nodes")),
    Case("nothing for a workflow", ("run", "null.json"), 3, ("null.json", "object of nodes")),
    Case("a circle", ("run", "circle.json"), 3, ("circle.json", "form a circle", "1 → 2", "Take one of these links away")),
    Case("a missing input", ("run", "no_input.json"), 3, ("node 1 (ImageInvert)", "'image'", "missing")),
    Case("a wrong type", ("run", "wrong_type.json"), 3, ("node 2 (VAEDecode)", "LATENT", "IMAGE")),
    Case("a dangling link", ("run", "dangling.json"), 3, ("node 2 (SaveImage)", "'nowhere'")),
    Case("an output that is not there", ("run", "no_such_output.json"), 3, ("node 2 (SaveImage)", "number 7")),
    Case("an unknown node", ("run", "unknown_node.json"), 3, ("'KSampel'", "Did you mean KSampler")),
    Case("no output", ("run", "no_output.json"), 3, ("no output node", "SaveImage")),
    Case("a value out of bounds", ("run", "huge_value.json"), 3, ("node 1 (EmptyImage)", "'width'")),
    Case("a hundred thousand nodes", ("run", "many.json"), 3, ("many.json", "100000", "50000")),
    Case("no number", ("run", "not_a_number.json"), 3, ("$.1.inputs.color", "not finite")),
    Case("half a character", ("run", "half_character.json"), 3, ("$.2.inputs.filename_prefix", "surrogate")),
    Case("too deep", ("run", "deep.json"), 3, ("deep.json", "nested too deeply")),
    Case("a picture without a workflow", ("run", "a.png"), 3, ("a.png", "carries no workflow")),
    Case("a check of a faulty workflow", ("run", "unknown_node.json", "--check"), 3, ("KSampel",)),
    Case("a replay of nothing", ("replay", "a.png"), 3, ("a.png", "carries nothing")),
    Case("a replay of what is no picture", ("replay", "damaged.safetensors"), 3, ("damaged.safetensors", "no picture")),
    Case("a replay of a bomb", ("replay", "bomb.png"), 3, ("bomb.png", "60000 x 60000", "budget")),
    Case("a replay of what is not there", ("replay", "gone.png"), 3, ("gone.png", "no such file")),
    Case("a sweep of nothing", ("sweep", "x", "-o", "s.png"), 2, ("--x",)),
    Case("a name too long to write", ("generate", "x", "-o", "x" * 300 + ".png"), 2, ("no file can be called", "shorter")),
    Case("a name too long to read", ("generate", "x", "--image", "x/" * 3000 + "a.png"), 2, ("no file can be called", "shorter")),
    Case("a name too long to run", ("run", "x" * 5000), 2, ("no file can be called", "shorter")),
    Case("a name with a NUL", ("replay", "a\0.png"), 2, ("no file can be called",)),
    Case("a device to run", ("run", "/dev/zero"), 3, ("/dev/zero", "too large")),
    Case("a device to replay", ("replay", "/dev/zero"), 3, ("/dev/zero", "no ordinary file")),
    Case("a device for a model", ("models", "info", "/dev/null"), 3, ("/dev/null", "empty")),
    Case("a command that is none", ("dream",), 2, ("'dream'", "--help")),
]

HEAVY = [
    Case("an embedding that is missing", ("generate", "a embedding:nobody house"), 4, ("'nobody'", "sfumato models list")),
    Case("a prompt of a million letters", ("generate", "word " * 200_000), 2, ("prompt",)),
    Case("a bomb to start from", ("generate", "x", "--image", "bomb.png", "--width", "64", "--height", "64"), 3, ("bomb.png", "budget")),
    Case("a damaged picture to start from", ("generate", "x", "--image", "broken.png"), 3, ("broken.png", "Get the file again")),
    Case("a LoRA for another model", ("generate", "x", "--lora", "foreign.safetensors"), 3, ("foreign.safetensors",)),
    Case("a workflow that leaves its folder", ("run", "outside.json"), 1, ("../../x", "leads out of the output folder")),
]


@pytest.fixture(scope="module")
def table(terminal: Any) -> Path:
    """The folder with all those files."""
    folder: Path = terminal.folder
    for name, graph in {**_WORKFLOWS, "good": {"1": _PICTURE, "2": _SAVE}}.items():
        (folder / f"{name}.json").write_text(json.dumps(graph))
    for name, text in _TEXTS.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "many.json").write_text(json.dumps({str(number): _PICTURE for number in range(100_000)}))
    write_image(folder / "a.png", np.zeros((16, 16, 3), np.uint8))
    write_image(folder / "small.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "bomb.png").write_bytes(_png(60_000, 60_000))
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:-30])
    write_safetensors(folder / "cut.safetensors", {"x": np.zeros(100, np.float32)})
    (folder / "cut.safetensors").write_bytes((folder / "cut.safetensors").read_bytes()[:-7])
    (folder / "damaged.safetensors").write_bytes((40).to_bytes(8, "little") + b'{"x": {"dtype": "F32", "shape": [-1]}}   ' + b"\xff" * 9)
    write_safetensors(folder / "foreign.safetensors", {f"unet.x.lora_{side}.weight": np.zeros((2, 2), np.float32) for side in "AB"})
    (folder / "pickled.ckpt").write_bytes(pickle.dumps(_Bomb(folder / "it ran")))
    (folder / "folder.png").mkdir()
    return folder


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _png(width: int, height: int) -> bytes:
    """A picture that says it is large, and holds a row of nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def ran_light(terminal: Any, table: Path) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """(what each light case gave, what lay in the folder before)"""
    before = terminal.left()
    yield dict(zip((case.name for case in LIGHT), terminal.run_all([(*case.words, "--json") for case in LIGHT]), strict=True)), before


@pytest.fixture(scope="module")
def ran_heavy(terminal: Any, table: Path) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """The same for those that need the engine."""
    before = terminal.left()
    yield dict(zip((case.name for case in HEAVY), terminal.run_all([(*case.words, "--json") for case in HEAVY]), strict=True)), before


def _check(case: Case, ran: Any) -> None:
    assert ran.code == case.code, ran.err
    told = ran.err + ran.out if "--check" in case.words else ran.err
    for words in case.named:
        assert words in told
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
    if "--check" not in case.words:
        assert ran.err.startswith("sfumato: ")
        assert ran.json["error"]["exit_code"] == case.code


@pytest.mark.parametrize("case", LIGHT, ids=lambda case: case.name)
def test_bad_input_is_told_with_place_and_remedy(case: Case, ran_light: tuple[dict[str, Any], set[str]]) -> None:
    _check(case, ran_light[0][case.name])


@pytest.mark.slow
@pytest.mark.parametrize("case", HEAVY, ids=lambda case: case.name)
def test_bad_input_that_only_the_engine_finds_is_told_as_well(case: Case, ran_heavy: tuple[dict[str, Any], set[str]]) -> None:
    _check(case, ran_heavy[0][case.name])


def test_none_of_it_left_anything_behind(ran_light: tuple[dict[str, Any], set[str]], terminal: Any) -> None:
    assert terminal.left() == ran_light[1]


def test_nothing_in_the_pickled_file_ran(ran_light: tuple[dict[str, Any], set[str]], table: Path) -> None:
    assert not (table / "it ran").exists()
    pickle.loads((table / "pickled.ckpt").read_bytes())  # noqa: S301  the bomb is a real one
    assert (table / "it ran").exists()
    (table / "it ran").unlink()


# --- Processes of their own ---------------------------------------------------------------------------------------------------------


def test_a_process_of_its_own_ends_with_the_same_code_and_message(terminal: Any, table: Path) -> None:
    ran = terminal.run("run", "circle.json")
    assert ran.code == 3
    assert ran.out == ""
    assert ran.err.startswith("sfumato: circle.json: ")
    assert "Traceback" not in ran.err


def test_a_place_that_takes_no_files_is_told_before_the_work(terminal: Any) -> None:
    """/proc is writable for nobody, not even for the superuser."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    ran = terminal.run("generate", "x", "-o", "/proc/picture.png")
    assert ran.code == 1
    assert ran.err.startswith("sfumato: /proc/picture.png: ")
    assert "Choose another folder" in ran.err


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_a_picture(terminal: Any, table: Path) -> None:
    """The system lets no file grow beyond two kilobytes."""
    before = terminal.left()
    # Without compiled files: Python itself would leave truncated ones under such a limit.
    limit = "import resource; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    ran = terminal.run("generate", "a house", "-o", "full.png", "--width", "64", "--height", "64", "--steps", "1", "--json", before=limit)
    assert ran.code == 1
    assert "full.png" in ran.err
    assert "no space" in ran.err
    assert "Free some space" in ran.json["error"]["remedy"]
    assert terminal.left() == before


@pytest.mark.slow
def test_a_prompt_of_signs_and_scripts_is_a_prompt_like_any_other(terminal: Any) -> None:
    prompt = "a 🔴 rund круг 圆 \u202e\u0301" + "👩‍👩‍👧" * 20
    words = ("generate", prompt, "-o", "signs.png", "--width", "64", "--height", "64", "--steps", "1", "--json")
    made, replayed = terminal.run_all([words, ("replay", "signs.png", "--json")])
    assert made.code == 0, made.err
    assert replayed.json["identical"] is True
    (terminal.folder / "signs.png").unlink()


def test_the_commands_above_are_run_as_a_user_runs_them(terminal: Any) -> None:
    """The script that an installation puts on the path does the same as the module."""
    script = str(Path(sys.executable).parent / "sfumato")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, env=terminal.environment, check=False)
    assert done.stdout.startswith("sfumato ")
