"""Workflows as ComfyUI's editor saves them: every feature of a sheet beside the graph that it means, written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfumato.app import App
from sfumato.catalogue import Catalogue
from sfumato.cli.workflows import read_workflow as read_file
from sfumato.errors import BadValueError, PluginError, WorkflowError
from sfumato.graph import Graph, GraphBuilder, Link, Node
from sfumato.images.metadata import PictureMetadata
from sfumato.images.writing import write_image
from sfumato.nodes import Input, NodeType, node
from sfumato.offers import FileFormatOffer
from sfumato.recipes import graph_for
from sfumato.records import hidden_of
from sfumato.request import GenerateRequest, LoraUse
from sfumato.sockets import AnyValue, Choice, Image, Latent, Mask, Model, Options, Range, Seed
from sfumato.validation import validate
from sfumato.workflow_formats import WorkflowFormat, read_workflow, workflow_formats
from sfumato.workflow_json import Budget
from sfumato_comfy.formats import WORKFLOW
from sfumato_comfy.workflow import UiWorkflow, is_same

# --- Nodes of the tests --------------------------------------------------------------------------------------------------


@node("Load", category="test", outputs=("MODEL", "IMAGE"))
def load(name: Annotated[str, Choice("models:test")], kind: Literal["plain", "fixed"] = "plain") -> tuple[Model, Image]:
    """Two outputs; a choice that is known at run time only, and one that may be called as the editor calls a state of a seed."""
    raise NotImplementedError


@node("Sample", category="test", outputs=("LATENT",))
def sample(model: Model, seed: Seed = 0, steps: Annotated[int, Range(1, 100)] = 20, *, latent: Latent, cfg: float = 8.0) -> tuple[Latent]:
    """A seed between other widgets."""
    raise NotImplementedError


@node("Patch", category="test", outputs=("MODEL", "IMAGE"))
def patch(image: Image, model: Model, strength: float = 1.0) -> tuple[Model, Image]:
    """What goes in comes out at other numbers."""
    raise NotImplementedError


@node("Picture", category="test", outputs=("IMAGE", "MASK"), optional=("flip",))
def picture(
    image: Annotated[str, Choice("images", upload=True)], channel: Literal["red", "alpha"] = "alpha", flip: bool = False
) -> tuple[Image, Mask]:
    """A picture to upload, and an optional widget after the button."""
    raise NotImplementedError


@node("Switches", category="test", outputs=("LATENT",))
def switches(add_noise: bool = True, seed: Seed = 0, tiled: bool = False) -> tuple[Latent]:
    """Truths around a seed."""
    raise NotImplementedError


@node("Empty", category="test", outputs=("LATENT",), optional=("note",))
def empty(width: int = 512, height: int = 512, note: str | None = None) -> tuple[Latent]:
    """An optional widget without a default."""
    raise NotImplementedError


@node("Save", category="test", is_output=True)
def save(images: Image, prefix: str = "ComfyUI") -> None:
    """An output."""
    raise NotImplementedError


@node("Show", category="test", is_output=True)
def show(value: AnyValue, forced: Annotated[int, Options((("forceInput", True),))] = 0) -> None:
    """Takes anything; a number that has no widget."""
    raise NotImplementedError


NODES: list[Any] = [load, sample, patch, picture, switches, empty, save, show]
TYPES: list[NodeType] = [each.node_type for each in NODES]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    made = Catalogue(TYPES)
    made.add_source("models", lambda source: ["a.safetensors", "b.safetensors"])
    made.add_source("images", lambda source: ["x.png"])
    return made


# --- Sheets of the tests -------------------------------------------------------------------------------------------------


def box(key: Any, kind: str, inputs: Any = (), outputs: str = "", values: Any = None, mode: int = 0, **more: Any) -> dict[str, Any]:
    """A node as the editor writes it. `inputs`: (name, type, link), or (name, type, link, True) for one that has a widget."""
    slots = [{"name": n, "type": t, "link": link, **({"widget": {"name": n}} if widget else {})} for n, t, link, *widget in inputs]
    ends = [{"name": name, "type": name, "links": [], "slot_index": place} for place, name in enumerate(outputs.split())]
    made = {"id": key, "type": kind, "pos": [10, 20.5], "size": {"0": 210, "1": 58}, "flags": {}, "order": 0, "mode": mode}
    return {**made, "inputs": slots, "outputs": ends, "properties": {}, **({} if values is None else {"widgets_values": values}), **more}


def sheet(*nodes: dict[str, Any], links: Any = (), version: float = 0.4, **more: Any) -> dict[str, Any]:
    """A workflow. `links`: (id, from, output, to, input)."""
    wires: list[Any] = [[*link, "*"] for link in links]
    if version >= 1:
        wires = [as_object(link) for link in links]
        more = {"state": {"lastNodeId": 9, "lastLinkId": 9, "lastGroupId": 0, "lastRerouteId": 0}, "reroutes": [], **more}
    frame = {"last_node_id": 9, "last_link_id": 9, "groups": [{"title": "G", "bounding": [0, 0, 9, 9]}], "config": {}, "extra": {}}
    return {**frame, "nodes": list(nodes), "links": wires, "version": version, **more}


def as_object(link: Any) -> dict[str, Any]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return {**dict(zip(names, link, strict=True)), "type": "*"}


def definition(key: str, inputs: str, outputs: str, *nodes: dict[str, Any], links: Any = ()) -> dict[str, Any]:
    """A sub-graph: `inputs` and `outputs` are names, `links` as for `sheet`, with -10 and -20 as the borders."""
    ends: dict[str, Any] = {
        what: [{"id": f"{key}-{name}", "name": name, "type": "*", "linkIds": []} for name in names.split()]
        for what, names in (("inputs", inputs), ("outputs", outputs))
    }
    frame = {"id": key, "version": 1, "name": key, "inputNode": {"id": -10}, "outputNode": {"id": -20}, "groups": [], "widgets": []}
    return {**frame, **ends, "nodes": list(nodes), "links": [as_object(link) for link in links]}


def graph_of(value: Any, catalogue: Catalogue) -> Any:
    """The graph in API format, without titles."""
    graph = UiWorkflow.parse(json.dumps(value)).to_graph(catalogue)
    return {key: [node.type, dict(node.inputs)] for key, node in graph.nodes.items()}


LOADER = box(1, "Load", outputs="MODEL IMAGE", values=["a.safetensors", "plain"])
LOADED = ["Load", {"name": "a.safetensors", "kind": "plain"}]
BLANK = box(2, "Empty", outputs="LATENT", values=[64, 32])
BLANKED = ["Empty", {"width": 64, "height": 32}]
SAMPLE_IN = (("model", "MODEL", 1), ("latent", "LATENT", 2))
SAMPLED = ["Sample", {"model": Link("1", 0), "seed": 7, "steps": 20, "cfg": 8.0, "latent": Link("2", 0)}]


# --- Nodes, wires and values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0.4, 1])
def test_nodes_links_and_values_are_read_in_both_versions(catalogue: Catalogue, version: float) -> None:
    ui = sheet(
        LOADER,
        BLANK,
        box(3, "Sample", SAMPLE_IN, "LATENT", [7, "randomize", 20, 8.0], title="my sampler"),
        links=[(1, 1, 0, 3, 0), (2, 2, 0, 3, 1)],
        version=version,
    )
    assert graph_of(ui, catalogue) == {"1": LOADED, "2": BLANKED, "3": SAMPLED}
    titles = [node.title for node in UiWorkflow(ui).to_graph(catalogue).nodes.values()]
    assert titles == ["", "", "my sampler"]


@pytest.mark.parametrize("key", ["abc", 12, "12"])
def test_ids_may_be_numbers_or_texts(catalogue: Catalogue, key: Any) -> None:
    ui = sheet(box(key, "Load", outputs="MODEL IMAGE", values=["b", "plain"]), box(3, "Patch", [("model", "MODEL", "w")], values=[0.5]))
    ui["links"] = [["w", key, 0, 3, 1, "MODEL"], None]
    assert graph_of(ui, catalogue)["3"] == ["Patch", {"model": Link(str(key), 0), "strength": 0.5}]


SEEDS = [
    ("with a word", [7, "fixed", 12, 3.5], {"seed": 7, "steps": 12, "cfg": 3.5}),
    ("with a truth, in old files", [7, True, 12, 3.5], {"seed": 7, "steps": 12, "cfg": 3.5}),
    ("without, in the oldest", [7, 12, 3.5], {"seed": 7, "steps": 12, "cfg": 3.5}),
    ("older than the last input", [7, "increment", 12], {"seed": 7, "steps": 12, "cfg": 8.0}),
    ("without, and older", [7, 12], {"seed": 7, "steps": 12, "cfg": 8.0}),
    ("only the seed", [7, "fixed"], {"seed": 7, "steps": 20, "cfg": 8.0}),
    ("no values", [], {"seed": 0, "steps": 20, "cfg": 8.0}),
    ("nothing at all", None, {"seed": 0, "steps": 20, "cfg": 8.0}),
    ("with more than is known", [7, "fixed", 12, 3.5, "what?", None], {"seed": 7, "steps": 12, "cfg": 3.5}),
    ("with a hole", [7, "fixed", None, 3.5], {"seed": 7, "steps": 20, "cfg": 3.5}),
    ("by name", {"steps": 5, "seed": 9, "control_after_generate": "fixed"}, {"seed": 9, "steps": 5, "cfg": 8.0}),
]


@pytest.mark.parametrize(("values", "inputs"), [each[1:] for each in SEEDS], ids=[each[0] for each in SEEDS])
def test_what_the_editor_adds_to_a_seed_is_no_value_of_the_node(catalogue: Catalogue, values: Any, inputs: Any) -> None:
    assert graph_of(sheet(box(3, "Sample", values=values)), catalogue) == {"3": ["Sample", inputs]}


@pytest.mark.parametrize(
    ("values", "inputs"),
    [
        ([False, 5, "fixed", True], (False, 5, True)),
        ([False, 5, True, True], (False, 5, True)),
        ([False, 5, False, True], (False, 5, True)),
        ([False, 5, True], (False, 5, True)),
        ([False, 5], (False, 5, False)),
    ],
)
def test_a_truth_after_a_seed_is_the_next_input_where_there_is_no_other(catalogue: Catalogue, values: Any, inputs: Any) -> None:
    expected = dict(zip(("add_noise", "seed", "tiled"), inputs, strict=True))
    assert graph_of(sheet(box(1, "Switches", values=values)), catalogue)["1"][1] == expected


@pytest.mark.parametrize(
    ("values", "inputs"),
    [
        (["p.png", "red", "image", True], {"image": "p.png", "channel": "red", "flip": True}),
        (["p.png", "red", "image"], {"image": "p.png", "channel": "red", "flip": False}),
        (["p.png", "red", None], {"image": "p.png", "channel": "red", "flip": False}),
        (["p.png", "red", True], {"image": "p.png", "channel": "red", "flip": True}),
        (["p.png"], {"image": "p.png", "channel": "alpha", "flip": False}),
    ],
)
def test_the_button_to_upload_is_no_value_of_the_node(catalogue: Catalogue, values: Any, inputs: Any) -> None:
    assert graph_of(sheet(box(1, "Picture", values=values)), catalogue)["1"][1] == inputs


def test_an_input_newer_than_the_file_has_its_default_and_an_optional_one_without_is_left_out(catalogue: Catalogue) -> None:
    assert graph_of(sheet(box(1, "Load"), box(2, "Empty")), catalogue) == {
        "1": ["Load", {"name": "a.safetensors", "kind": "plain"}],
        "2": ["Empty", {"width": 512, "height": 512}],
    }


def test_a_converted_widget_keeps_its_place_among_the_values_and_the_link_counts(catalogue: Catalogue) -> None:
    number = box(2, "Number", outputs="INT", values=[3])
    converted = (("seed", "INT", 5, True), ("steps", "INT", None, True), *SAMPLE_IN)
    ui = sheet(number, box(3, "Sample", converted, values=[7, "fixed", 12, 3.5]), links=[(5, 2, 0, 3, 0)])
    assert graph_of(ui, catalogue)["3"][1] == {"seed": Link("2", 0), "steps": 12, "cfg": 3.5}


def test_the_files_own_names_count_where_the_node_has_changed_since(catalogue: Catalogue) -> None:
    slots = (("model", "MODEL", None), ("seed", "INT", None, True), ("cfg", "FLOAT", None, True))
    assert graph_of(sheet(box(3, "Sample", slots, values=[7, "fixed", 3.5])), catalogue)["3"][1] == {"seed": 7, "steps": 20, "cfg": 3.5}


def test_where_newer_editors_give_the_values_by_name_too_the_names_count(catalogue: Catalogue) -> None:
    named = {"cfg": 3.5, "seed": 7, "control_after_generate": "fixed"}
    ui = sheet(
        box(3, "Sample", values=[3.5, 7, "fixed"], widgets_values_named=named),
        box(4, "FancyNode", values=[1, "x", "image"], widgets_values_named={"a": 1, "b": "x", "upload": "image"}),
        box(5, "PrimitiveNode", outputs="INT", widgets_values_named={"value": 9, "control_after_generate": "fixed"}),
        box(6, "Empty", [("width", "INT", 1, True)], values=[64, 32]),
        links=[(1, 5, 0, 6, 0)],
    )
    assert graph_of(ui, catalogue) == {
        "3": ["Sample", {"seed": 7, "steps": 20, "cfg": 3.5}],
        "4": ["FancyNode", {"a": 1, "b": "x"}],
        "6": ["Empty", {"width": 9, "height": 32}],
    }


def test_a_number_that_has_no_widget_takes_no_value(catalogue: Catalogue) -> None:
    ui = sheet(BLANK, box(3, "Show", [("value", "*", 1), ("forced", "INT", None)], values=["preview"]), links=[(1, 2, 0, 3, 0)])
    assert graph_of(ui, catalogue)["3"][1] == {"value": Link("2", 0)}


# --- Nodes that are not there --------------------------------------------------------------------------------------------


def test_a_node_that_is_not_there_keeps_the_values_that_the_file_names(catalogue: Catalogue) -> None:
    slots = (("image", "IMAGE", 1), ("text", "STRING", None, True), ("seed", "INT", None, True), ("on", "BOOLEAN", None, True))
    ui = sheet(LOADER, box(4, "FancyNode", slots, values=["hi", 5, "randomize", False]), links=[(1, 1, 1, 4, 0)])
    assert graph_of(ui, catalogue)["4"] == ["FancyNode", {"image": Link("1", 1), "text": "hi", "seed": 5, "on": False}]


def test_a_node_that_is_not_there_keeps_values_without_names_as_they_are(catalogue: Catalogue) -> None:
    ui = sheet(LOADER, box(4, "FancyNode", [("image", "IMAGE", 1)], values=["hi", 5, [1, 2]]), links=[(1, 1, 1, 4, 0)])
    assert graph_of(ui, catalogue)["4"] == ["FancyNode", {"image": Link("1", 1), "widgets_values": ["hi", 5, [1, 2]]}]


def test_a_node_that_is_not_there_keeps_values_by_name_except_what_only_the_browser_has(catalogue: Catalogue) -> None:
    values = {"rate": 8, "loop": True, "videopreview": {"hidden": False}}
    assert graph_of(sheet(box(4, "VideoThing", values=values)), catalogue)["4"] == ["VideoThing", {"rate": 8, "loop": True}]


def test_missing_nodes_are_told_by_name(catalogue: Catalogue) -> None:
    ui = sheet(LOADER, box(4, "FancyNode", [("image", "IMAGE", 1)], "IMAGE"), box(5, "Save", [("images", "IMAGE", 2)]))
    ui["links"] = [[1, 1, 1, 4, 0, "IMAGE"], [2, 4, 0, 5, 0, "IMAGE"]]
    faults = validate(WORKFLOW.read(ui, catalogue), catalogue).faults
    assert [(fault.type, fault.node_type, fault.node_id) for fault in faults] == [("missing_node_type", "FancyNode", "4")]


# --- What exists in the editor only --------------------------------------------------------------------------------------


def test_reroutes_are_followed_and_one_that_hangs_in_the_air_gives_nothing(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(5, "Reroute", [("", "*", 1)], "MODEL"),
        box(6, "Reroute", [("", "*", 2)], "MODEL"),
        box(7, "Reroute", [("", "*", None)], "LATENT"),
        box(3, "Sample", [("model", "MODEL", 3), ("latent", "LATENT", 4), ("steps", "INT", 5, True)], values=[7, "fixed", 9, 8.0]),
        links=[(1, 1, 0, 5, 0), (2, 5, 0, 6, 0), (3, 6, 0, 3, 0), (4, 7, 0, 3, 1), (5, 7, 0, 3, 2)],
    )
    assert graph_of(ui, catalogue) == {
        "1": LOADED,
        "3": ["Sample", {"model": Link("1", 0), "seed": 7, "steps": 9, "cfg": 8.0}],
    }


def test_a_primitive_gives_its_value_through_reroutes_too(catalogue: Catalogue) -> None:
    ui = sheet(
        box(5, "PrimitiveNode", outputs="INT", values=[99, "randomize"]),
        box(6, "Reroute", [("", "*", 1)], "*"),
        box(3, "Sample", [("seed", "INT", 2, True), ("steps", "INT", 3, True)], values=[7, "fixed", 9, 8.0]),
        box(8, "PrimitiveNode", outputs="*"),
        box(4, "Empty", [("width", "INT", 4, True)], values=[64, 32]),
        links=[(1, 5, 0, 6, 0), (2, 5, 0, 3, 0), (3, 6, 0, 3, 1), (4, 8, 0, 4, 0)],
    )
    assert graph_of(ui, catalogue) == {"3": ["Sample", {"seed": 99, "steps": 99, "cfg": 8.0}], "4": BLANKED}


def test_values_that_are_set_under_a_name_are_got_under_it(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(5, "SetNode", [("MODEL", "MODEL", 1)], "*", ["the model"]),
        box(6, "GetNode", (), "MODEL", ["the model"]),
        box(7, "GetNode", (), "MODEL", ["another"]),
        box(3, "Patch", [("model", "MODEL", 2), ("image", "IMAGE", 3)], values=[1.0]),
        links=[(1, 1, 0, 5, 0), (2, 6, 0, 3, 1), (3, 7, 0, 3, 0)],
    )
    assert graph_of(ui, catalogue) == {"1": LOADED, "3": ["Patch", {"model": Link("1", 0), "strength": 1.0}]}


def test_notes_and_groups_are_no_nodes(catalogue: Catalogue) -> None:
    assert graph_of(sheet(LOADER, box(8, "Note", values=["hello"]), box(9, "MarkdownNote", values=["# hi"])), catalogue) == {"1": LOADED}


def test_an_own_node_of_the_name_of_one_of_the_editors_is_a_node() -> None:
    own = NodeType("Note", (Input("text", "STRING"),), (), lambda: None)  # type: ignore[arg-type,return-value]
    assert graph_of(sheet(box(8, "Note", values=["hello"])), Catalogue([own])) == {"8": ["Note", {"text": "hello"}]}


# --- Muted and bypassed --------------------------------------------------------------------------------------------------


def test_a_muted_node_goes_and_with_it_the_inputs_that_hang_on_it(catalogue: Catalogue) -> None:
    ui = sheet(
        {**LOADER, "mode": 2},
        BLANK,
        box(5, "Reroute", [("", "*", 1)], "MODEL"),
        box(6, "Number", outputs="INT", mode=2),
        box(3, "Sample", [*SAMPLE_IN, ("steps", "INT", 4, True)], values=[7, "fixed", 20, 8.0]),
        links=[(1, 5, 0, 3, 0), (2, 2, 0, 3, 1), (3, 1, 0, 5, 0), (4, 6, 0, 3, 2)],
    )
    ui["nodes"][2]["inputs"][0]["link"] = 3
    graph = graph_of(ui, catalogue)
    assert graph == {"2": BLANKED, "3": ["Sample", {"seed": 7, "cfg": 8.0, "latent": Link("2", 0)}]}


def test_a_bypassed_node_hands_on_the_input_of_the_same_type_whatever_its_number(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(4, "Patch", [("image", "IMAGE", 1), ("model", "MODEL", 2)], "MODEL IMAGE", [0.5], mode=4),
        box(5, "Patch", [("image", "IMAGE", 3), ("model", "MODEL", 4)], "MODEL IMAGE", [0.25], mode=4),
        box(6, "Patch", [("image", "IMAGE", 5), ("model", "MODEL", 6)], values=[1.0]),
        links=[(1, 1, 1, 4, 0), (2, 1, 0, 4, 1), (3, 4, 1, 5, 0), (4, 4, 0, 5, 1), (5, 5, 1, 6, 0), (6, 5, 0, 6, 1)],
    )
    assert graph_of(ui, catalogue) == {"1": LOADED, "6": ["Patch", {"image": Link("1", 1), "model": Link("1", 0), "strength": 1.0}]}


def test_of_several_inputs_of_a_type_the_bypassed_one_of_the_same_number_is_handed_on(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(2, "Load", outputs="MODEL IMAGE", values=["b.safetensors", "fixed"]),
        box(4, "Two", [("a", "MODEL", 1), ("b", "MODEL", 2)], "MODEL MODEL", mode=4),
        box(6, "Patch", [("model", "MODEL", 3)], values=[1.0]),
        box(7, "Patch", [("model", "*", 4)], values=[1.0]),
        links=[(1, 1, 0, 4, 0), (2, 2, 0, 4, 1), (3, 4, 1, 6, 1), (4, 4, 0, 7, 1)],
    )
    graph = graph_of(ui, catalogue)
    assert (graph["6"][1]["model"], graph["7"][1]["model"]) == (Link("2", 0), Link("1", 0))


def test_a_bypassed_node_without_such_an_input_gives_nothing(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(4, "Coder", [("model", "MODEL", 1)], "LATENT INT", mode=4),
        box(3, "Sample", [("latent", "LATENT", 2), ("steps", "INT", 3, True)], values=[7, "fixed", 9, 8.0]),
        links=[(1, 1, 0, 4, 0), (2, 4, 0, 3, 0), (3, 4, 1, 3, 1)],
    )
    assert graph_of(ui, catalogue)["3"] == ["Sample", {"seed": 7, "steps": 9, "cfg": 8.0}]


def test_a_bypass_behind_a_union_of_types_hands_on_one_of_them(catalogue: Catalogue) -> None:
    ui = sheet(
        LOADER,
        box(4, "Any", [("x", "INT", None), ("y", "IMAGE,MASK", 1)], "IMAGE", mode=4),
        box(6, "Save", [("images", "IMAGE", 2)], values=["p"]),
        links=[(1, 1, 1, 4, 1), (2, 4, 0, 6, 0)],
    )
    assert graph_of(ui, catalogue)["6"] == ["Save", {"images": Link("1", 1), "prefix": "p"}]


# --- Sub-graphs ----------------------------------------------------------------------------------------------------------

INNER = definition(
    "sub-1",
    "model seed",
    "LATENT again",
    box(1, "Empty", outputs="LATENT", values=[64, 32]),
    box(5, "Reroute", [("", "*", 3)], "LATENT"),
    box(
        2,
        "Sample",
        [("model", "MODEL", 1), ("seed", "INT", 2, True), ("latent", "LATENT", 4)],
        "LATENT",
        [7, "fixed", 20, 8.0],
    ),
    links=[(1, -10, 0, 2, 0), (2, -10, 1, 2, 1), (3, 1, 0, 5, 0), (4, 5, 0, 2, 2), (6, 2, 0, -20, 0), (7, 1, 0, -20, 1)],
)


def with_sub_graphs(*nodes: dict[str, Any], definitions: Any = (INNER,), links: Any = ()) -> dict[str, Any]:
    return sheet(*nodes, links=links, version=1, definitions={"subgraphs": list(definitions)})


def opened(key: str, seed: Any, model: Link | None) -> dict[str, Any]:
    inputs = {"seed": seed, "steps": 20, "cfg": 8.0, "latent": Link(f"{key}:1", 0), **({"model": model} if model else {})}
    return {f"{key}:1": BLANKED, f"{key}:2": ["Sample", inputs]}


SHOW_BOTH = box(9, "Show", [("value", "*", 8)]), box(8, "Show", [("value", "*", 9)])
TO_SHOW = [(8, 3, 0, 9, 0), (9, 3, 1, 8, 0)]


@pytest.mark.parametrize(
    ("seed_slot", "values", "properties", "expected"),
    [
        (("seed", "INT", None, True), [], {"proxyWidgets": [["2", "seed"], ["2", "control_after_generate"]]}, 7),
        (("seed", "INT", None, True), [11], {}, 11),
        (("seed", "INT", None, True), [11], {"proxyWidgets": [["-1", "seed"]]}, 11),
        (("seed", "INT", None, True), [11, "fixed"], {"proxyWidgets": [["2", "seed"], ["2", "control_after_generate"]]}, 11),
        (("seed", "INT", None, True), {"seed": 11}, {}, 11),
        (("seed", "INT", None, True), None, {}, 7),
        (("seed", "INT", 5, True), [11], {}, Link("4", 0)),
        (("renamed", "INT", 5, True), [11], {}, Link("4", 0)),
    ],
    ids=[
        "the value inside",
        "shown outside",
        "shown as its own",
        "shown as another's",
        "shown by name",
        "never shown",
        "linked",
        "renamed",
    ],
)
def test_a_sub_graph_is_opened(catalogue: Catalogue, seed_slot: Any, values: Any, properties: Any, expected: Any) -> None:
    ui = with_sub_graphs(
        LOADER,
        box(4, "Number", outputs="INT"),
        box(3, "sub-1", [("model", "MODEL", 1), seed_slot], "LATENT LATENT", values, properties=properties),
        *SHOW_BOTH,
        links=[(1, 1, 0, 3, 0), *([(5, 4, 0, 3, 1)] if seed_slot[2] else []), *TO_SHOW],
    )
    assert graph_of(ui, catalogue) == {
        "1": LOADED,
        "4": ["Number", {}],
        "9": ["Show", {"value": Link("3:2", 0)}],
        "8": ["Show", {"value": Link("3:1", 0)}],
        **opened("3", expected, Link("1", 0)),
    }


def test_one_sub_graph_may_be_used_twice_with_different_values(catalogue: Catalogue) -> None:
    ui = with_sub_graphs(*(box(key, "sub-1", [("model", "MODEL", None), ("seed", "INT", None, True)], values=[key]) for key in (3, 4)))
    assert graph_of(ui, catalogue) == {**opened("3", 3, None), **opened("4", 4, None)}


def test_a_sub_graph_may_hold_another_and_values_are_shown_through_both(catalogue: Catalogue) -> None:
    outer = definition(
        "sub-2",
        "the_model",
        "out",
        box(8, "sub-1", [("model", "MODEL", 1), ("seed", "INT", None, True)], "LATENT LATENT", [11]),
        links=[(1, -10, 0, 8, 0), (2, 8, 0, -20, 0)],
    )
    shown = {"proxyWidgets": [["8", "seed"]]}
    ui = with_sub_graphs(
        LOADER,
        box(3, "sub-2", [("the_model", "MODEL", 1)], "LATENT", [12], properties=shown),
        box(9, "Show", [("value", "*", 8)]),
        definitions=(INNER, outer),
        links=[(1, 1, 0, 3, 0), (8, 3, 0, 9, 0)],
    )
    assert graph_of(ui, catalogue) == {"1": LOADED, "9": ["Show", {"value": Link("3:8:2", 0)}], **opened("3:8", 12, Link("1", 0))}


@pytest.mark.parametrize(("mode", "value"), [(2, {}), (4, {"value": Link("1", 0)})], ids=["muted", "bypassed"])
def test_a_sub_graph_is_muted_and_bypassed_as_one_node(catalogue: Catalogue, mode: int, value: Any) -> None:
    ui = with_sub_graphs(
        LOADER,
        box(3, "sub-1", [("model", "MODEL", 1)], "LATENT LATENT", mode=mode),
        box(9, "Show", [("value", "MODEL", 8)]),
        links=[(1, 1, 0, 3, 0), (8, 3, 0, 9, 0)],
    )
    assert graph_of(ui, catalogue) == {"1": LOADED, "9": ["Show", value]}


def test_a_sub_graph_within_itself_is_a_fault_and_an_explosion_of_them_is_refused(catalogue: Catalogue) -> None:
    itself = definition("a", "", "", box(1, "b")), definition("b", "", "", box(2, "a"))
    assert faults_of(with_sub_graphs(box(1, "a"), definitions=itself), catalogue) == [
        ("invalid_prompt", "$.definitions.subgraphs[1].nodes[0]"),
    ]
    bomb = [definition(f"d{level}", "", "", *(box(key, f"d{level + 1}") for key in range(10))) for level in range(30)]
    assert faults_of(with_sub_graphs(box(1, "d0"), definitions=bomb), catalogue) == [("too_large", "$")]


# --- Writing -------------------------------------------------------------------------------------------------------------


def a_graph() -> Graph:
    build = GraphBuilder()
    loaded = build.node("Load", None, "my model", name="b.safetensors", kind="fixed")
    blank = build.node("Empty", width=64, height=32)
    sampled = build.node("Sample", model=loaded.out(), seed=2**64 - 1, steps=9, cfg=1.5, latent=blank.out())
    build.node("Show", value=sampled.out())
    return build.graph()


def test_a_written_workflow_has_what_the_editor_wants(catalogue: Catalogue) -> None:
    ui = WORKFLOW.write(a_graph(), catalogue)
    assert ui == json.loads(json.dumps(ui))
    assert (ui["version"], ui["last_node_id"], ui["last_link_id"]) == (0.4, 4, 3)
    assert ui["links"] == [[1, 1, 0, 3, 0, "MODEL"], [2, 2, 0, 3, 1, "LATENT"], [3, 3, 0, 4, 0, "LATENT"]]
    by_id = {each["id"]: each for each in ui["nodes"]}
    assert by_id[1]["title"] == "my model"
    assert "title" not in by_id[2]
    assert by_id[1]["widgets_values"] == ["b.safetensors", "fixed"]
    assert by_id[3]["widgets_values"] == [2**64 - 1, "fixed", 9, 1.5]
    assert by_id[3]["inputs"][:3] == [
        {"name": "model", "type": "MODEL", "link": 1},
        {"name": "latent", "type": "LATENT", "link": 2},
        {"name": "seed", "type": "INT", "link": None, "widget": {"name": "seed"}},
    ]
    assert by_id[1]["outputs"] == [{"name": "MODEL", "type": "MODEL", "links": [1]}, {"name": "IMAGE", "type": "IMAGE", "links": None}]
    assert by_id[3]["properties"] == {"Node name for S&R": "Sample"}
    assert sorted(each["order"] for each in ui["nodes"]) == [0, 1, 2, 3]
    assert {(each["mode"], tuple(each["flags"])) for each in ui["nodes"]} == {(0, ())}


def test_the_button_to_upload_is_written_after_what_is_required(catalogue: Catalogue) -> None:
    graph = Graph({"1": Node("Picture", {"image": "p.png", "channel": "red", "flip": True})})
    assert WORKFLOW.write(graph, catalogue)["nodes"][0]["widgets_values"] == ["p.png", "red", "image", True]


def test_every_wire_leads_to_the_right_and_no_box_lies_on_another(app: App) -> None:
    request = GenerateRequest(prompt="a", model="m", loras=tuple(LoraUse(f"l{number}", 1.0) for number in range(3)))
    ui = WORKFLOW.write(graph_for(request), app.catalogue)
    boxes = {each["id"]: (*each["pos"], *each["size"]) for each in ui["nodes"]}
    for _, origin, _, target, *_ in ui["links"]:
        assert boxes[origin][0] + boxes[origin][2] < boxes[target][0]
    title = 30
    for key, (x, y, width, height) in boxes.items():
        for other, (x2, y2, width2, height2) in boxes.items():
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 - title or y2 + height2 <= y - title
            assert key == other or apart


def test_what_a_request_becomes_survives_the_way_to_the_editor_and_back(app: App) -> None:
    graph = graph_for(GenerateRequest(prompt="a {red|blue} boat", negative="", model="m", clip_skip=2, loras=(LoraUse("l", 0.5),)))
    text = json.dumps(WORKFLOW.write(graph, app.catalogue))
    assert is_same(read_workflow(text, app.catalogue, app.workflow_formats()), graph)


NAMES = st.sampled_from(["model", "latent", "seed", "steps", "value", "image", "text", "widgets_values", "", "ö"])
CONSTANTS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["fixed", "randomize", "image", "", "red"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.booleans(), max_size=2),
)
KEYS = st.one_of(st.integers(1, 30).map(str), st.sampled_from(["0", "-10", "007", "a b", "57:3", "1e3", "²"]))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph whose links lead somewhere: wrong values, missing inputs, unknown types and circles included."""
    keys = draw(st.lists(KEYS, unique=True, max_size=6))
    links = st.builds(Link, st.sampled_from(keys), st.integers(0, 3)) if keys else st.nothing()
    nodes = {}
    for key in keys:
        kind = draw(st.sampled_from([*(t.name for t in TYPES), "Stranger", "Wanderer"]))
        declared = next(([socket.name for socket in t.inputs] for t in TYPES if t.name == kind), [])
        names = draw(st.lists(st.one_of(st.sampled_from(declared), NAMES) if declared else NAMES, unique=True, max_size=6))
        nodes[key] = Node(kind, {name: draw(CONSTANTS | links) for name in names}, draw(st.sampled_from(["", "a title"])))
    return Graph(nodes)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(graph=graphs())
def test_any_graph_survives_the_way_to_the_editor_and_back(catalogue: Catalogue, graph: Graph) -> None:
    text = json.dumps(WORKFLOW.write(graph, catalogue))
    assert is_same(UiWorkflow.parse(text).to_graph(catalogue), graph)


def test_an_input_that_was_left_out_is_there_once_its_value_is_changed(catalogue: Catalogue) -> None:
    ui = WORKFLOW.write(Graph({"1": Node("Sample", {"cfg": 3.0}), "2": Node("Empty", {"width": 8, "height": 8})}), catalogue)
    assert ui["nodes"][0]["widgets_values"] == [0, "fixed", 20, 3.0]
    assert ui["nodes"][1]["widgets_values"] == [8, 8]
    ui["nodes"][0]["widgets_values"][2] = 21
    assert graph_of(ui, catalogue)["1"] == ["Sample", {"steps": 21, "cfg": 3.0}]


# --- Changing values in place --------------------------------------------------------------------------------------------

STRANGE = """{ "last_node_id": 3,"nodes" :[
  {"id":2 , "type":"Empty","x\\u0041":1.50e1,"widgets_values":[64,  32],"outputs":[{"name":"L","type":"LATENT","links":[2]}]},
\t{"id": 3, "type": "Sample", "inputs":[{"name":"latent","type":"LATENT","link":2}], "widgets_values": [7, "randomize", 20]},
  {"id": 4, "type": "Save", "future": {"deep": [1, {"b": 9007199254740993.000}]}}],
  "links": [[2,2,0,3,1,"LATENT"]], "extra":{"é": null}, "extra2": 1E5, "version":0.4 }\r\n"""


def test_what_was_not_changed_comes_back_byte_for_byte(catalogue: Catalogue) -> None:
    workflow = UiWorkflow.parse(STRANGE.encode())
    assert workflow.text == STRANGE
    assert workflow.with_values({"2": {"width": 64}}, catalogue).text == STRANGE


def test_one_value_is_changed_and_nothing_else(catalogue: Catalogue) -> None:
    workflow = UiWorkflow.parse(STRANGE)
    changed = workflow.with_values({"2": {"height": 128}, "3": {"seed": 2**64 - 1}}, catalogue)
    assert changed.text == STRANGE.replace("64,  32", "64,  128").replace('[7, "randomize"', f'[{2**64 - 1}, "randomize"')
    assert changed.to_graph(catalogue).nodes["3"].inputs == {"seed": 2**64 - 1, "steps": 20, "cfg": 8.0, "latent": Link("2", 0)}


def test_a_value_that_the_file_does_not_have_yet_is_added(catalogue: Catalogue) -> None:
    changed = UiWorkflow.parse(STRANGE).with_values({"3": {"cfg": 2.5}, "4": {"prefix": "ü"}, "2": {"note": "n"}}, catalogue)
    none = UiWorkflow.parse('{"nodes": [{"id": 1, "type": "Sample", "widgets_values": [ ]}]}').with_values({"1": {"steps": 3}}, catalogue)
    assert none.text == '{"nodes": [{"id": 1, "type": "Sample", "widgets_values": [0, "fixed", 3 ]}]}'
    slots = [("width", "INT", None, True), ("height", "INT", None, True)]
    named = UiWorkflow(sheet(box(2, "Empty", slots, values=[64, 32]))).with_values({"2": {"note": "n"}}, catalogue)
    assert named.raw["nodes"][0]["widgets_values"] == [64, 32, "n"]
    none = UiWorkflow.parse('{"nodes": [{"id": 1, "type": "Sample"}]}').with_values({"1": {"cfg": 2.0}}, catalogue)
    assert none.text == '{"nodes": [{"id": 1, "type": "Sample", "widgets_values": [0, "fixed", 20, 2.0]}]}'
    assert changed.text == (
        STRANGE.replace('[7, "randomize", 20]', '[7, "randomize", 20, 2.5]')
        .replace("000}]}}]", '000}]}, "widgets_values": ["ü"]}]')
        .replace("[64,  32]", '[64,  32, "n"]')
    )
    assert changed.to_graph(catalogue).nodes["2"].inputs == {"width": 64, "height": 32, "note": "n"}


def test_values_are_changed_in_primitives_and_sub_graphs_and_objects(catalogue: Catalogue) -> None:
    ui = with_sub_graphs(
        box(3, "sub-1", [("model", "MODEL", None), ("seed", "INT", None, True)], values=[11]),
        box(5, "PrimitiveNode", outputs="INT", values=[99, "fixed"]),
        box(6, "Empty", [("width", "INT", 1, True)], values={"height": 8}),
        links=[(1, 5, 0, 6, 0)],
    )
    changed = UiWorkflow(ui).with_values({"3:2": {"seed": 12, "steps": 3}, "6": {"width": 100, "height": 9}}, catalogue)
    expected = json.loads(json.dumps(ui))
    expected["nodes"][0]["widgets_values"] = [12]
    expected["nodes"][1]["widgets_values"] = [100, "fixed"]
    expected["nodes"][2]["widgets_values"] = {"height": 9}
    expected["definitions"]["subgraphs"][0]["nodes"][2]["widgets_values"] = [7, "fixed", 3, 8.0]
    assert changed.raw == expected


def test_a_value_that_stands_in_the_file_twice_is_changed_twice(catalogue: Catalogue) -> None:
    named = {"width": 64, "height": 32}
    ui = sheet(box(2, "Empty", values=[64, 32], widgets_values_named=named), box(3, "Empty", values=[64], widgets_values_named=named))
    changed = UiWorkflow(ui).with_values({"2": {"height": 8, "note": "n"}, "3": {"height": 8}}, catalogue).raw["nodes"]
    assert [each["widgets_values"] for each in changed] == [[64, 8], [64]]
    assert [each["widgets_values_named"] for each in changed] == [{"width": 64, "height": 8, "note": "n"}, {"width": 64, "height": 8}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"9": {"x": 1}}, "there is no node '9'"),
        ({"3": {"latent": 1}}, "linked to node 2"),
        ({"3": {"model": 1}}, "no place for the input 'model'"),
        ({"3": {"seed": float("nan")}}, "cannot be written"),
        ({"3": {"seed": None}}, "stands for several|cannot be"),
    ],
)
def test_a_value_that_cannot_be_changed_says_why(catalogue: Catalogue, values: Any, words: str) -> None:
    with pytest.raises(BadValueError, match=words):
        UiWorkflow.parse(STRANGE).with_values(values, catalogue)


def test_a_value_that_two_nodes_share_is_not_changed_for_one(catalogue: Catalogue) -> None:
    ui = with_sub_graphs(box(3, "sub-1", [("seed", "INT", None)]), box(4, "sub-1", [("seed", "INT", None)]))
    with pytest.raises(BadValueError, match="several"):
        UiWorkflow(ui).with_values({"3:2": {"steps": 3}}, catalogue)
    both = UiWorkflow(ui).with_values({"3:2": {"steps": 3}, "4:2": {"steps": 3}}, catalogue)
    assert [both.to_graph(catalogue).nodes[key].inputs["steps"] for key in ("3:2", "4:2")] == [3, 3]


def test_an_updated_workflow_keeps_its_places_where_only_constants_differ(catalogue: Catalogue) -> None:
    ui = sheet(LOADER, BLANK, box(3, "Sample", SAMPLE_IN, values=[7, "fixed"]), links=[(1, 1, 0, 3, 0), (2, 2, 0, 3, 1)])
    graph = WORKFLOW.read(ui, catalogue)
    assert WORKFLOW.updated(ui, graph, catalogue) is ui
    sample = graph.nodes["3"]
    as_exported = {key: value for key, value in sample.inputs.items() if key != "cfg"}
    other = Graph({**graph.nodes, "3": Node("Sample", {**as_exported, "steps": 4}, "KSampler, as the editor calls it")})
    changed = WORKFLOW.updated(ui, other, catalogue)
    assert changed["nodes"][2]["widgets_values"] == [7, "fixed", 4]
    assert changed["nodes"][2]["pos"] == [10, 20.5]


@pytest.mark.parametrize(
    "inputs",
    [{"model": 1}, {"model": Link("1", 1)}, {"steps": Link("1", 0)}, {"odd": 5}],
    ids=["no link", "another link", "a new link", "a new input"],
)
def test_where_more_than_constants_differs_the_workflow_is_written_anew(catalogue: Catalogue, inputs: Any) -> None:
    ui = sheet(LOADER, BLANK, box(3, "Sample", SAMPLE_IN, values=[7, "fixed"]), links=[(1, 1, 0, 3, 0), (2, 2, 0, 3, 1)])
    graph = WORKFLOW.read(ui, catalogue)
    for changed in ({**graph.nodes["3"].inputs, **inputs}, {"seed": 7, "steps": 20, "latent": Link("2", 0)}):
        unlike = Graph({**graph.nodes, "3": Node("Sample", changed)})
        assert is_same(WORKFLOW.read(WORKFLOW.updated(ui, unlike, catalogue), catalogue), unlike)


# --- Files that are wrong ------------------------------------------------------------------------------------------------


def faults_of(value: Any, catalogue: Catalogue, budget: Budget | None = None) -> list[tuple[str, str]]:
    """(type, JSON path) of each fault."""
    with pytest.raises(WorkflowError) as caught:
        UiWorkflow.parse(json.dumps(value), budget=budget).to_graph(catalogue)
    return [(fault.type, fault.extra_info["path"]) for fault in caught.value.faults]


def test_every_fault_is_told_at_once_with_its_path(catalogue: Catalogue) -> None:
    ui = {
        "nodes": [
            5,
            {"type": "Load"},
            {"id": True, "type": "Load"},
            {"id": 1, "type": ""},
            {"id": 2, "type": "Save", "inputs": {}, "outputs": [1]},
            {"id": 2, "type": "Save", "inputs": [{"name": 3, "link": [1]}], "widgets_values": 8},
        ],
        "links": [[1, 2], {"id": 1}, "x", [1, 1, -1, 2, 0], None],
        "definitions": {"subgraphs": [{"id": "a"}, {"id": "a", "links": 4}, []]},
    }
    places = [
        "definitions.subgraphs[1].id", "definitions.subgraphs[1].links", "definitions.subgraphs[2]", "nodes[0]", "nodes[1].id",
        "nodes[2].id", "nodes[2].id", "nodes[3].type", "nodes[4].inputs", "nodes[4].outputs[0]", "nodes[5].widgets_values",
        "nodes[5].inputs[0].name", "nodes[5].inputs[0].link", "nodes[5].id", "links[0]", "links[1]", "links[2]", "links[3]",
    ]  # fmt: skip
    found = faults_of(ui, catalogue)
    assert sorted(path for _, path in found) == sorted(f"$.{place}" for place in places)
    assert {kind for kind, _ in found} == {"invalid_prompt"}


def test_values_that_no_node_could_take_are_faults_only_where_a_node_takes_them(catalogue: Catalogue) -> None:
    ui = sheet(box(1, "Empty", values=[float("nan"), 10**50]), extra={"ds": {"scale": float("nan")}})
    assert faults_of(ui, catalogue) == [("bad_number", "$.nodes[0].widgets_values[0]"), ("bad_number", "$.nodes[0].widgets_values[1]")]


def test_reroutes_in_a_circle_are_a_fault(catalogue: Catalogue) -> None:
    ui = sheet(
        box(1, "Reroute", [("", "*", 2)], "*"),
        box(2, "Reroute", [("", "*", 1)], "*"),
        box(3, "Show", [("value", "*", 3)]),
        links=[(1, 1, 0, 2, 0), (2, 2, 0, 1, 0), (3, 2, 0, 3, 0)],
    )
    assert [kind for kind, _ in faults_of(ui, catalogue)] == ["dependency_cycle"]


def test_budgets_are_kept(catalogue: Catalogue) -> None:
    many = sheet(*(box(key, "Empty", values=[1, 2]) for key in range(20)))
    assert faults_of(many, catalogue, Budget(nodes=10)) == [("too_large", "$")]
    assert faults_of(many, catalogue, Budget(bytes=100)) == [("too_large", "$")]
    assert faults_of(sheet(*[1, 2, 3] * 9), catalogue, Budget(faults=5))[-1] == ("too_many_faults", "$")  # type: ignore[arg-type]
    shared = definition("d", "", "", box(1, "Stranger", values=[0] * 900))
    uses = with_sub_graphs(*(box(key, "d") for key in range(50)), definitions=[shared])
    assert faults_of(uses, catalogue, Budget(values=3000)) == [("too_large", "$")]
    wide = definition("d", " ".join(map(str, range(900))), "", box(1, "Stranger"))
    uses = with_sub_graphs(*(box(key, "d") for key in range(50)), definitions=[wide])
    assert faults_of(uses, catalogue, Budget(values=12_000)) == [("too_large", "$")]
    handing = box(1, "Stranger", [(str(number), "X", None) for number in range(900)], mode=4)
    ends = [box(key, "Show", [("value", "Y", key)]) for key in range(2, 52)]
    ui = sheet(handing, *ends, links=[(key, 1, key, key, 0) for key in range(2, 52)])
    assert faults_of(ui, catalogue, Budget(values=12_000)) == [("too_large", "$")]


def test_thousands_of_reroutes_in_a_row_are_followed_for_thousands_of_nodes(catalogue: Catalogue) -> None:
    count = 3_000
    chain = [box(key, "Reroute", [("", "*", key - 1)], "*") for key in range(2, count)]
    ends = [box(count + key, "Show", [("value", "*", count + key)]) for key in range(count)]
    wires = [(key - 1, key - 1, 0, key, 0) for key in range(2, count)]
    wires += [(count + key, count - 1, 0, count + key, 0) for key in range(count)]
    graph = WORKFLOW.read(sheet(LOADER, *chain, *ends, links=wires), catalogue)
    assert {node.inputs["value"] for node in graph.nodes.values() if node.type == "Show"} == {Link("1", 0)}


WHOLE = with_sub_graphs(
    LOADER,
    box(3, "sub-1", [("model", "MODEL", 1), ("seed", "INT", 5, True)], "LATENT LATENT", [11], properties={"proxyWidgets": [["2", "seed"]]}),
    box(5, "PrimitiveNode", outputs="INT", values=[99, "fixed"]),
    box(6, "Patch", [("image", "IMAGE", 6), ("model", "MODEL", 7)], "MODEL IMAGE", mode=4),
    box(7, "Picture", outputs="IMAGE MASK", values=["p.png"], widgets_values_named={"image": "p.png"}),
    *SHOW_BOTH,
    links=[(1, 6, 0, 3, 0), (5, 5, 0, 3, 1), (6, 7, 0, 6, 0), (7, 1, 0, 6, 1), *TO_SHOW],
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-30, 30), st.just(10**60), st.floats(), st.sampled_from(["", "x", "1", "\ud800", "*"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "name", "link", "x"]), inner, max_size=3),
    max_leaves=5,
)


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one part replaced, removed or doubled, somewhere below."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        copy: Any = value.copy()
        action = draw(st.sampled_from(["deeper", "deeper", "deeper", "remove", "double"]))
        if action == "remove":
            del copy[key]
        elif action == "double" and isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[key] = mutated(draw, copy[key])
        return copy
    return draw(JUNK)


@st.composite
def malformed(draw: st.DrawFn) -> Any:
    value: Any = WHOLE
    for _ in range(draw(st.integers(1, 4))):
        value = mutated(draw, value)
    return value


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(value=malformed())
def test_a_malformed_file_gives_a_graph_or_a_workflow_error_and_nothing_else(catalogue: Catalogue, value: Any) -> None:
    try:
        graph = UiWorkflow(value).to_graph(catalogue)
    except WorkflowError as error:
        assert error.faults
        assert all(fault.extra_info["path"].startswith("$") for fault in error.faults)
        str(error).encode()
    else:
        again = json.dumps(WORKFLOW.write(graph, catalogue))
        assert is_same(UiWorkflow.parse(again).to_graph(catalogue), graph)
        validate(graph, catalogue)


# --- How core asks -------------------------------------------------------------------------------------------------------


def test_core_reads_either_format_and_names_the_file(app: App, catalogue: Catalogue) -> None:
    formats = app.workflow_formats()
    assert all(isinstance(each, WorkflowFormat) for each in formats)
    ui = json.dumps(sheet(LOADER)).encode()
    expected = Graph({"1": Node("Load", {"name": "a.safetensors", "kind": "plain"})})
    assert read_workflow(ui, catalogue, formats) == expected
    assert read_workflow(json.dumps(expected.to_json()), catalogue, formats) == expected
    with pytest.raises(WorkflowError) as caught:
        read_workflow('{"nodes": [1]}', catalogue, formats, where="party.json")
    assert caught.value.where == "party.json"
    with pytest.raises(WorkflowError, match="API format"):
        read_workflow(ui, catalogue)


def test_run_takes_a_file_of_the_editor_and_a_picture_that_carries_nothing_else(app: App, tmp_path: Path) -> None:
    graph = graph_for(GenerateRequest(prompt="a boat", model="m", seed=5))
    ui = app.editor_workflow(graph)
    file, picture = tmp_path / "w.json", tmp_path / "p.png"
    file.write_text(json.dumps(ui), "utf-8")
    write_image(picture, np.zeros((8, 8, 3), np.float32), PictureMetadata(workflow=ui))
    for read in (read_file(app, file), read_file(app, picture)):
        assert is_same(read.graph, graph)
        assert read.editor == ui
    body = {"prompt": graph.to_json(), "extra_data": {"extra_pnginfo": {"workflow": ui}}}
    file.write_text(json.dumps(body), "utf-8")
    assert read_file(app, file).editor == ui


def test_a_faulty_workflow_of_the_editor_beside_a_good_graph_is_drawn_anew(app: App) -> None:
    graph = graph_for(GenerateRequest(prompt="a boat", model="m", seed=5))
    assert app.editor_workflow(graph, {"nodes": [1]}) == app.editor_workflow(graph)
    assert app.editor_workflow(graph, "nonsense") == app.editor_workflow(graph)


@pytest.mark.slow
def test_what_travels_with_a_run_has_a_workflow_that_the_editor_opens(app: App) -> None:
    graph = Graph({"1": Node("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1})})
    assert is_same(app.read_workflow(hidden_of(app, graph)["extra_pnginfo"]["workflow"]), graph)
    assert hidden_of(app, graph, workflow={"its": "own"})["extra_pnginfo"] == {"workflow": {"its": "own"}}


def test_a_format_that_cannot_read_workflows_is_the_plugins_fault() -> None:
    with pytest.raises(PluginError, match="cannot read workflows"):
        workflow_formats([FileFormatOffer("odd", "json:dumps", "", (".json",))])
    assert workflow_formats([FileFormatOffer("pictures", "nowhere:NOTHING", "", (".png",))]) == []
