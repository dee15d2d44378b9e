"""Node types by name, duplicates, near names, choices, and ComfyUI's object_info."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import pytest

from sfumato.catalogue import Catalogue, Duplicate
from sfumato.errors import PluginError
from sfumato.nodes import Output, node
from sfumato.sockets import Choice, Image, Lazy, Mask, Range, Text


def test_a_type_is_found_by_its_name(bench: Any) -> None:
    assert bench.catalogue.get("Add").name == "Add"
    assert "Add" in bench.catalogue
    assert "Nowhere" not in bench.catalogue
    assert bench.catalogue.get("Nowhere") is None
    assert len(bench.catalogue) == len(list(bench.catalogue))


def test_the_first_of_a_name_is_used_and_the_second_reported(bench: Any) -> None:
    kind = bench.catalogue.get("Add")
    catalogue = Catalogue()
    catalogue.add([kind], "ours")
    other = dataclasses.replace(kind, category="elsewhere")
    catalogue.add([other, kind], "theirs")
    assert catalogue.get("Add") is kind
    assert catalogue.offered_by("Add") == "ours"
    assert catalogue.duplicates == [Duplicate("Add", "ours", "theirs")]
    assert catalogue.offered_by("Nowhere") == ""


def test_near_names_are_found_whatever_their_capitals(bench: Any) -> None:
    assert bench.catalogue.near("number")[0] == "Number"
    assert bench.catalogue.near("COUNTDOWN", 1) == ["CountDown"]
    assert bench.catalogue.near("Qqqqqqqq") == []


def test_choices_come_from_who_gives_them() -> None:
    catalogue = Catalogue()
    catalogue.add_source("samplers", lambda source: ["euler"])
    catalogue.add_source("models", lambda source: [f"one of {source}"])
    catalogue.add_source("models:special", lambda source: ["special"])
    assert catalogue.resolve("samplers") == ["euler"]
    assert catalogue.resolve("models:vae") == ["one of models:vae"]
    assert catalogue.resolve("models:special") == ["special"]


def test_choices_that_nobody_gives_are_an_error_and_are_listed(bench: Any) -> None:
    catalogue = Catalogue([bench.catalogue.get("Model")])
    with pytest.raises(PluginError, match="nobody gives the choices 'models:checkpoints'"):
        catalogue.resolve("models:checkpoints")
    assert catalogue.unresolved() == [("Model", "name", "models:checkpoints")]
    assert bench.catalogue.unresolved() == []


@node(
    "Everything", category="image/test", display="All of it", optional=("text",), is_output=True, experimental=True, outputs=("pic", "nums")
)
class Everything:
    """Has one input of each kind."""

    def needs(self, **inputs: Any) -> list[str]:
        return []

    def run(
        self,
        image: Image,
        model: Annotated[str, Choice("models:vae")],
        steps: Annotated[int, Range(1, 100, 1)] = 20,
        late: Annotated[float, Lazy()] = 0.5,
        text: Annotated[str, Text(multiline=True)] = "",
        mask: Mask | None = None,
    ) -> tuple[Image, int]:
        return image, 1


def test_object_info_has_comfyuis_shape() -> None:
    catalogue = Catalogue([Everything.node_type])  # type: ignore[attr-defined]
    catalogue.add_source("models", lambda source: ["a.safetensors"])
    assert json.loads(json.dumps(catalogue.object_info())) == {
        "Everything": {
            "input": {
                "required": {
                    "image": ["IMAGE"],
                    "model": [["a.safetensors"]],
                    "steps": ["INT", {"min": 1, "max": 100, "step": 1, "default": 20}],
                    "late": ["FLOAT", {"default": 0.5, "lazy": True}],
                },
                "optional": {"text": ["STRING", {"multiline": True, "default": ""}], "mask": ["MASK"]},
            },
            "input_order": {"required": ["image", "model", "steps", "late"], "optional": ["text", "mask"]},
            "output": ["IMAGE", "INT"],
            "output_is_list": [False, False],
            "output_name": ["pic", "nums"],
            "name": "Everything",
            "display_name": "All of it",
            "description": "Has one input of each kind.",
            "python_module": __name__,
            "category": "image/test",
            "output_node": True,
            "experimental": True,
        }
    }


def test_object_info_of_one_node_and_of_none(bench: Any) -> None:
    assert list(bench.catalogue.object_info("Add")) == ["Add"]
    assert bench.catalogue.object_info("Nowhere") == {}
    assert bench.catalogue.object_info("Words")["Words"]["input"]["optional"] == {"mood": [["calm", "loud"], {"default": "calm"}]}


def test_object_info_lists_a_node_whose_choices_nobody_gives(bench: Any) -> None:
    catalogue = Catalogue([bench.catalogue.get("Model")])
    assert catalogue.object_info()["Model"]["input"]["required"] == {"name": [[]]}


def test_object_info_tells_tooltips_of_outputs_and_what_is_deprecated(bench: Any) -> None:
    kind = dataclasses.replace(bench.catalogue.get("Number"), outputs=(Output("n", "INT", tooltip="a number"),), deprecated=True)
    info = Catalogue([kind]).object_info()["Number"]
    assert info["output_tooltips"] == ["a number"]
    assert info["deprecated"] is True
    assert "experimental" not in info
