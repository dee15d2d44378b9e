"""The text that A1111-style tools write and read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.images.parameters import (
    SAMPLER_LABELS,
    SCHEDULE_LABELS,
    Parameters,
    format_parameters,
    parse_parameters,
    sampler_name,
    schedule_name,
)

FIELDS = {"Steps": "20", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "7.0", "Seed": "1", "Size": "512x768"}
TEXT = """a castle on a hill, (mist:1.2)
second line <lora:ink:0.8>
Negative prompt: blurry, text
and more
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 1, Size: 512x768"""


def test_the_text_is_what_the_tools_write() -> None:
    parts = Parameters("a castle on a hill, (mist:1.2)\nsecond line <lora:ink:0.8>", "blurry, text\nand more", FIELDS)
    assert format_parameters(parts) == TEXT and parse_parameters(TEXT) == parts


def test_a_line_of_a_real_picture_is_read() -> None:
    text = (
        "cat\r\nNegative prompt: dog\r\nSteps: 30, Sampler: Euler a, CFG scale: 7, Seed: 965698614, Size: 512x512, Model hash: 6ce0161689, "
        'Model: v1-5-pruned-emaonly, Denoising strength: 0.7, Clip skip: 2, ENSD: 31337, Lora hashes: "ink: 0a1b2c, fog: 3d4e5f", '
        'Template: "a {b|c}, \\"d\\"\\nNegative prompt: e", Hires upscale: 2, Version: v1.10.1'
    )
    parts = parse_parameters(text)
    assert (parts.prompt, parts.negative) == ("cat", "dog") and len(parts.fields) == 14
    assert parts.fields["Lora hashes"] == "ink: 0a1b2c, fog: 3d4e5f" and parts.fields["Version"] == "v1.10.1"
    assert parts.fields["Template"] == 'a {b|c}, "d"\nNegative prompt: e' and parts.fields["Clip skip"] == "2"


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=25)
lines = st.lists(words.filter(lambda line: not line.startswith("Negative prompt:") and ": " not in line), min_size=1, max_size=3).map(
    "\n".join
)
names = st.text("abcdefgh ", min_size=1, max_size=8).map(str.strip).filter(bool)


@settings(max_examples=150, deadline=None)
@given(
    prompt=lines,
    negative=lines.filter(bool) | st.just(""),
    fields=st.dictionaries(names, st.text(max_size=15), max_size=4),
    steps=st.integers(1, 99),
)
def test_parts_come_back(prompt: str, negative: str, fields: dict[str, str], steps: int) -> None:
    parts = Parameters(prompt, negative, {"Steps": str(steps), **fields})
    assert parse_parameters(format_parameters(parts)) == parts


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.text('Steps: 20,"\n\\NegativeprompSamlr', max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    parts = parse_parameters(text)
    assert parse_parameters(text.rstrip("\n")).fields == parts.fields


@pytest.mark.parametrize("text", ["", "only a prompt", "a prompt\nof two lines, with: a colon", "half a Steps: 20"])
def test_a_text_without_settings_is_a_prompt(text: str) -> None:
    assert parse_parameters(text) == Parameters(text)


def test_a_long_broken_line_is_read_in_a_moment() -> None:
    text = 'Steps: 20, a: "' + '\\"' * 50_000 + ", b" * 50_000 + ":" * 50_000
    assert parse_parameters(text).fields["Steps"] == "20"


@pytest.mark.parametrize("name", SAMPLER_LABELS)
def test_labels_of_samplers_lead_back(name: str) -> None:
    assert sampler_name(SAMPLER_LABELS[name]) == name == sampler_name(name)


@pytest.mark.parametrize("name", SCHEDULE_LABELS)
def test_labels_of_schedules_lead_back(name: str) -> None:
    assert schedule_name(SCHEDULE_LABELS[name]) == name == schedule_name(name)


def test_old_labels_with_their_schedule_and_unknown_ones() -> None:
    assert sampler_name("DPM++ 2M Karras") == "dpmpp_2m" and sampler_name(" euler A ") == "euler_ancestral"
    assert sampler_name("Restart") == "Restart" and schedule_name("Turbo") == "Turbo"
