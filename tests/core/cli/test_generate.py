"""`sfumato generate`: files, names, what they carry, and every value that is refused before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sfumato_resources
from sfumato.images import read_metadata
from sfumato.paths import Folders

SMALL = ("--width", "64", "--height", "64", "--steps", "2", "--seed", "7")
Call = Callable[..., Any]
Pixels = Callable[[Path], NDArray[np.uint8]]


# --- Files and what is told of them ---------------------------------------------------------------------------------------


def test_the_result_names_the_file_the_seed_and_what_it_took(sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("generate", "a red circle", "-o", tmp_path / "a.png", *SMALL, "--json")
    assert ran.code == 0
    assert (tmp_path / "a.png").is_file()
    assert ran.json["files"] == [str(tmp_path / "a.png")]
    assert ran.json["texts"] == []
    assert ran.json["seed"] == 7
    assert ran.json["rung"] == "full"
    assert ran.json["seconds"] > 0
    assert ran.json["peak_bytes"] > 10_000_000
    assert ran.err == ""  # no bar where nobody looks


def test_without_a_seed_a_random_one_is_told(sfumato: Call, tmp_path: Path) -> None:
    words = ("generate", "x", "-o", tmp_path / "a.png", "--width", "64", "--height", "64", "--steps", "1", "--json")
    seeds = {sfumato(*words).json["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_a_batch_is_numbered(sfumato: Call, tmp_path: Path, pixels: Pixels) -> None:
    ran = sfumato("generate", "a red circle", "-o", tmp_path / "a.webp", "--batch", "3", *SMALL, "--json")
    files = [tmp_path / f"a-{number}.webp" for number in (1, 2, 3)]
    assert ran.json["files"] == [str(path) for path in files]
    assert not (tmp_path / "a.webp").exists()
    assert len({pixels(path).tobytes() for path in files}) == 3
    assert [read_metadata(path).record["index"] for path in files] == [0, 1, 2]


def test_without_a_name_the_output_folder_counts_up(sfumato: Call, home: Folders) -> None:
    files = [sfumato("generate", "x", *SMALL, "--json").json["files"] for _ in range(2)]
    assert files == [[str(home.output / "sfumato_00001_.png")], [str(home.output / "sfumato_00002_.png")]]


@pytest.mark.parametrize("ending", ["png", "webp", "jpg", "jpeg"])
def test_every_format_carries_the_same(make: Call, ending: str) -> None:
    carried = read_metadata(make(f"a.{ending}"))
    assert carried.prompt["5"]["class_type"] == "KSampler"
    assert carried.settings.prompt == "a red circle on a blue background"
    assert carried.settings.fields["Seed"] == "7"
    assert carried.settings.fields["Sampler"] == "DPM++ 2M"
    assert len(carried.settings.fields["Model hash"]) == 10
    record = carried.record
    assert record["request"]["prompt"] == "a red circle on a blue background"
    assert record["models"]["checkpoints/embedded"].startswith(carried.settings.fields["Model hash"])
    assert set(record["versions"]) == {"sfumato", "torch", "diffusers", "transformers"}
    assert record["machine"]["device"] == "cpu"
    assert record["rung"] == "full"
    assert carried.prompt[record["target"]]["class_type"] == "SaveImage"


def test_save_image_writes_what_generate_writes(make: Call, sfumato: Call, pixels: Pixels) -> None:
    """The picture of `run` is the same, and so is everything that it carries."""
    generated = make("a.png")
    saved = Path(sfumato("run", generated, "--json").json["files"][0])
    assert np.array_equal(pixels(saved), pixels(generated))
    assert read_metadata(saved) == read_metadata(generated)


# --- Models and pictures by path -----------------------------------------------------------------------------------------


def test_a_model_by_path_is_the_same_model(make: Call, model_folder: Path, pixels: Pixels) -> None:
    by_path = make("a.png", "--model", model_folder, "--cfg", "5")
    assert np.array_equal(pixels(by_path), pixels(make("b.png", "--cfg", "5")))
    record = read_metadata(by_path).record
    assert record["request"]["model"] == "mine"
    assert record["model_files"] == {"checkpoints/mine": str(model_folder)}


def test_a_lora_by_path_changes_the_picture_by_its_weight(make: Call, lora_file: Path, pixels: Pixels) -> None:
    plain, none, some = (
        pixels(make(f"{n}.png", *more)) for n, more in enumerate(((), ("--lora", f"{lora_file}:0"), ("--lora", lora_file)))
    )
    assert np.array_equal(plain, none)
    assert not np.array_equal(plain, some)


@pytest.mark.slow
def test_the_line_for_other_tools_names_the_loras(make: Call, lora_file: Path) -> None:
    assert read_metadata(make("a.png", "--lora", f"{lora_file}:0.5")).settings.prompt.endswith(" <lora:style:0.5>")


@pytest.mark.slow
def test_a_lora_by_name_and_one_by_path_of_the_same_name_are_two(make: Call, lora_file: Path, home: Folders) -> None:
    (home.models / "loras").mkdir(parents=True)
    (home.models / "loras" / lora_file.name).write_bytes(lora_file.read_bytes())
    record = read_metadata(make("a.png", "--lora", lora_file.stem, "--lora", lora_file)).record
    names = [each["name"] for each in record["request"]["loras"]]
    assert names == ["style.safetensors", f"{lora_file.parent.name}/style.safetensors"]


def test_an_autoencoder_by_path(make: Call, model_folder: Path, pixels: Pixels) -> None:
    assert np.array_equal(pixels(make("a.png", "--vae", model_folder / "vae")), pixels(make("b.png")))


@pytest.mark.slow
def test_an_upscaler_by_path_with_its_own_factor_or_another(make: Call, pixels: Pixels, tmp_path: Path) -> None:
    upscaler = tmp_path / "mine.safetensors"
    upscaler.write_bytes(next(iter(sfumato_resources.embedded_files("upscale_models").values())).read_bytes())
    assert pixels(make("a.png", "--upscale", upscaler)).shape == (128, 128, 3)
    assert pixels(make("b.png", "--upscale", f"{upscaler}:1.5")).shape == (96, 96, 3)
    assert pixels(make("c.png", "--upscale", f"{upscaler}:3")).shape == (192, 192, 3)


@pytest.mark.slow
def test_a_control_net_by_path_and_a_control_picture_that_is_one_already(make: Call, pixels: Pixels, noise: Call, tmp_path: Path) -> None:
    net, drawing = tmp_path / "net", noise("drawing.png")
    shutil.copytree(sfumato_resources.embedded_files("controlnet")["canny"], net)
    plain, by_name, by_path = (
        pixels(make(f"{number}.png", *words))
        for number, words in enumerate(((), ("--control", f"canny:{drawing}"), ("--control", f"canny={net}:{drawing}")))
    )
    assert not np.array_equal(plain, by_name)
    assert np.array_equal(by_name, by_path)
    prepared = make("p.png", "--control", f"none={net}:{drawing}:0.5")
    assert not any(node["class_type"] == "Preprocess" for node in read_metadata(prepared).prompt.values())
    assert not np.array_equal(pixels(prepared), by_path)


# --- Pictures to start from -----------------------------------------------------------------------------------------------


def test_outside_the_mask_no_byte_changes(make: Call, noise: Call, half_mask: Path, pixels: Pixels) -> None:
    source = noise("source.png")
    painted = make("a.png", "--image", source, "--mask", half_mask)
    assert np.array_equal(pixels(painted)[:, :32], pixels(source)[:, :32])
    assert not np.array_equal(pixels(painted)[:, 32:], pixels(source)[:, 32:])


@pytest.mark.slow
def test_a_batch_painted_into_a_picture_is_a_batch(make: Call, noise: Call, half_mask: Path, pixels: Pixels, tmp_path: Path) -> None:
    source = noise("source.png")
    make("a.png", "--image", source, "--mask", half_mask, "--batch", "2")
    first, second = pixels(tmp_path / "a-1.png"), pixels(tmp_path / "a-2.png")
    assert np.array_equal(first[:, :32], pixels(source)[:, :32])
    assert np.array_equal(second[:, :32], pixels(source)[:, :32])
    assert not np.array_equal(first, second)


def test_a_border_is_painted_and_the_picture_kept(make: Call, noise: Call, pixels: Pixels, sfumato: Call, tmp_path: Path) -> None:
    source = noise("source.png")
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", "--image", source, "--outpaint", "16,0,0,8", "--steps", "2")
    assert ran.code == 0, ran.err
    grown = pixels(tmp_path / "a.png")
    assert grown.shape == (72, 80, 3)
    assert np.array_equal(grown[:64, 16:], pixels(source))
    assert grown[:64, :16].std() > 1


def test_a_border_and_a_mask_count_both(noise: Call, half_mask: Path, pixels: Pixels, sfumato: Call, tmp_path: Path) -> None:
    source, more = noise("source.png"), ("--outpaint", "16,0,0,0", "--mask", half_mask, "--steps", "2")
    assert sfumato("generate", "x", "-o", tmp_path / "a.png", "--image", source, *more).code == 0
    grown = pixels(tmp_path / "a.png")
    assert np.array_equal(grown[:, 16:48], pixels(source)[:, :32])
    assert not np.array_equal(grown[:, 48:], pixels(source)[:, 32:])


def test_a_picture_of_an_odd_size_is_worked_on_in_multiples_of_eight_and_that_is_said(noise: Call, sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", "--image", noise("source.png", 61, 70), "--steps", "1")
    assert ran.code == 0
    assert "61x70; it is worked on as 64x72" in ran.err


# --- What is refused, before anything is loaded ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "place", "remedy"),
    [
        (("--steps", "0"), "steps: 0 is not between 1", ""),
        (("--steps", "-3"), "steps: -3", ""),
        (("--seed", "-1"), "seed: -1", ""),
        (("--seed", str(2**64)), f"seed: {2**64}", ""),
        (("--batch", "10000"), "batch: 10000", ""),
        (("--batch", "0"), "batch: 0", ""),
        (("--cfg", "nan"), "cfg: nan", ""),
        (("--cfg", "-1"), "cfg: -1", ""),
        (("--width", "0"), "width: 0", "Use 16"),
        (("--width", "-64"), "width: -64", "Use 16"),
        (("--width", "100"), "width: 100 is no multiple of 8", "Use 96"),
        (("--height", "99999999999"), "height: 99999999999", "Use 16384"),
        (("--clip-skip", "-1"), "clip_skip: -1", ""),
        (("--clip-skip", "25"), "clip_skip: 25", ""),
        (("--sampler", "eulr"), "unknown sampler 'eulr'", "Did you mean euler"),
        (("--schedule", "Karas"), "unknown schedule 'Karas'", "Did you mean karras"),
        (("--control", "sketch:x.png"), "unknown control 'sketch'", ""),
        (("--control", "none:x.png"), "control: a control picture needs", "none=MODEL:IMAGE"),
        (("--mask", "x.png"), "--mask needs --image", ""),
        (("--strength", "0.5"), "--strength needs --image", ""),
        (("--outpaint", "8,8,8,8"), "--outpaint needs --image", ""),
    ],
)
def test_a_value_that_cannot_be_is_refused(sfumato: Call, tmp_path: Path, words: tuple[str, ...], place: str, remedy: str) -> None:
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", *words)
    assert ran.code == 2
    assert place in ran.err
    assert remedy in ran.err
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("--strength", "1.5"), "strength: 1.5"),
        (("--batch", "65"), "batch: 65"),
        (("--outpaint", "1,0,0,0"), "'1,0,0,0' is not L,T,R,B in multiples of 8"),
        (("--mask", "{mask}"), "the mask is 32x64, the picture 64x64"),
    ],
)
def test_a_value_that_does_not_fit_the_picture_is_refused(
    sfumato: Call, noise: Call, tmp_path: Path, words: tuple[str, ...], place: str
) -> None:
    source, mask = noise("source.png"), noise("narrow.png", 32, 64)
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", "--image", source, *(word.format(mask=mask) for word in words))
    assert ran.code == 2
    assert place in ran.err


@pytest.mark.parametrize("option", ["--model", "--vae", "--lora", "--upscale"])
def test_a_model_that_is_not_there_is_exit_code_4(sfumato: Call, tmp_path: Path, option: str) -> None:
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", option, "nothing-like-it")
    assert ran.code == 4
    assert "'nothing-like-it'" in ran.err
    assert "sfumato models list" in ran.err


def test_a_model_of_another_kind_is_told_as_what_it_is(sfumato: Call, tmp_path: Path, lora_file: Path) -> None:
    for option in ("--model", "--vae", "--upscale"):
        ran = sfumato("generate", "x", "-o", tmp_path / "a.png", option, lora_file)
        assert ran.code == 3
        assert "a LoRA of rank 2" in ran.err
        assert str(lora_file) in ran.err


@pytest.mark.parametrize(("weight", "code"), [("101", 2), ("-101", 2)])
def test_the_weight_of_a_lora_has_limits(sfumato: Call, tmp_path: Path, lora_file: Path, weight: str, code: int) -> None:
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", "--lora", f"{lora_file}:{weight}")
    assert (ran.code, f"lora: {weight}" in ran.err) == (code, True)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("a.ora", 2, "'.ora' is no known picture format"),
        ("a", 2, "no ending"),
        ("missing/a.png", 2, "there is no such folder"),
        (".", 2, "no ending"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(sfumato: Call, tmp_path: Path, name: str, code: int, words: str) -> None:
    ran = sfumato("generate", "x", "-o", tmp_path / name, "--model", "nothing-like-it")
    assert ran.code == code
    assert words in ran.err


def test_a_folder_in_the_place_of_the_file(sfumato: Call, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png")
    assert ran.code == 2
    assert "this is a folder" in ran.err


def test_a_file_in_the_place_of_the_output_folder(sfumato: Call, home: Folders) -> None:
    home.output.write_text("in the way")
    ran = sfumato("generate", "x")
    assert ran.code == 1
    assert str(home.output) in ran.err


def test_a_prompt_that_is_no_unicode_is_refused(sfumato: Call, tmp_path: Path) -> None:
    ran = sfumato("generate", "a \udcff circle", "-o", tmp_path / "a.png")
    assert ran.code == 2
    assert "prompt: character 3" in ran.err


# --- Settings ---------------------------------------------------------------------------------------------------------------


def test_pictures_carry_nothing_where_the_settings_say_so(make: Call, home: Folders) -> None:
    home.settings_file.write_text('[engine]\ndevice = "cpu"\n[pictures]\ncarry = false\n')
    carried = read_metadata(make("a.png", "--cfg", "5"))
    assert (carried.prompt, carried.record, carried.parameters) == (None, None, "")


def test_the_settings_choose_the_format_and_quality(sfumato: Call, home: Folders) -> None:
    text = '[engine]\ndevice = "cpu"\n[pictures]\nformat = "webp"\nlossless = {}\nquality = 30\n'
    files = []
    for lossless in ("true", "false"):
        home.settings_file.write_text(text.format(lossless))
        files.append(Path(sfumato("generate", "x", *SMALL, "--json").json["files"][0]))
    assert [path.name for path in files] == ["sfumato_00001_.webp", "sfumato_00002_.webp"]
    assert b"VP8L" in files[0].read_bytes()[:64]
    assert b"VP8 " in files[1].read_bytes()[:64]


def test_a_picture_beyond_the_budget_of_the_settings_is_refused(sfumato: Call, noise: Call, home: Folders, tmp_path: Path) -> None:
    home.settings_file.write_text("[pictures]\nmost_megapixels = 1\n")
    ran = sfumato("generate", "x", "-o", tmp_path / "a.png", "--image", noise("large.png", 1400, 1000), "--width", "64", "--height", "64")
    assert ran.code == 3
    assert "1,000,000 pixels" in ran.err
