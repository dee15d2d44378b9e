"""The forms of single arguments."""

from __future__ import annotations

import argparse

import pytest

from sfumato.cli.arguments import Control, borders, control, path_of, with_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("style", ("style", None)),
        ("style:0.5", ("style", 0.5)),
        ("style:-1", ("style", -1.0)),
        (r"C:\loras\style.safetensors", (r"C:\loras\style.safetensors", None)),
        (r"C:\loras\style.safetensors:0.5", (r"C:\loras\style.safetensors", 0.5)),
        ("style:nan", ("style:nan", None)),
        (":0.5", (":0.5", None)),
    ],
)
def test_a_number_after_a_colon(text: str, expected: tuple[str, float | None]) -> None:
    assert with_number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("canny:edges.png", Control("canny", "edges.png")),
        ("canny:edges.png:0.8", Control("canny", "edges.png", "", 0.8)),
        ("canny=net.safetensors:edges.png", Control("canny", "edges.png", "net.safetensors")),
        ("none=net:edges.png:1", Control("none", "edges.png", "net", 1.0)),
        (r"canny:C:\edges.png:0.8", Control("canny", r"C:\edges.png", "", 0.8)),
        (r"canny=C:\net.safetensors:D:\edges.png", Control("canny", r"D:\edges.png", r"C:\net.safetensors")),
    ],
)
def test_a_control(text: str, expected: Control) -> None:
    assert control(text) == expected


@pytest.mark.parametrize("text", ["canny", "canny:", ":edges.png", ""])
def test_a_control_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="KIND"):
        control(text)


def test_borders_are_four_whole_numbers() -> None:
    assert borders("0, 8,16,24") == (0, 8, 16, 24)
    for text in ("1,2,3", "1,2,3,x", "-8,0,0,0", "", "0,8,0,0,0", "0,4,0,0", "٨,0,0,0"):
        with pytest.raises(argparse.ArgumentTypeError):
            borders(text)


def test_a_path_of_somebody_unknown_is_left_as_it_is() -> None:
    assert str(path_of("~nobody-of-this-name/x.png")) == "~nobody-of-this-name/x.png"
