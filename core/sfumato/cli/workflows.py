"""Workflows as files: read from JSON or from the picture that carries one, and changed by `NODE.INPUT=VALUE`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.app import App
from sfumato.bounded_json import JsonFault, read_json
from sfumato.cli.arguments import path_of
from sfumato.cli.pictures import adopt
from sfumato.errors import BadFileError, BadValueError, ImageFileError, SfumatoError
from sfumato.graph import Graph, Link, Node
from sfumato.images.containers import open_container
from sfumato.images.metadata import read_metadata
from sfumato.images.reading import read_source
from sfumato.nodes import Input
from sfumato.request import GenerateRequest
from sfumato.run_folders import ENDINGS
from sfumato.workflow_json import Budget, parse

_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")


@dataclass(frozen=True)
class Workflow:
    """A graph, the same in the form of ComfyUI's editor if that came along, and the record of the picture it came with."""

    graph: Graph
    editor: Any = None
    record: Any = None


def read_workflow(app: App, path: Path) -> Workflow:
    """The workflow in a JSON file or a picture. Raises BadFileError for a file with none, WorkflowError with every fault of one."""
    data = _content(path)
    if data.startswith(_PICTURES) or path.suffix.lower() in ENDINGS:
        return _of_picture(app, data, path)
    value = parse(data, where=str(path))
    is_editors = any(each.is_mine(value) for each in app.workflow_formats())
    return Workflow(app.read_workflow(value, str(path)), value if is_editors else _editor_part(value))


def request_behind(app: App, workflow: Workflow) -> GenerateRequest | None:
    """The request that the workflow answers, where its record has one and it is still true."""
    said = workflow.record.get("request") if isinstance(workflow.record, dict) else None
    if not isinstance(said, dict):
        return None
    try:
        request = GenerateRequest.from_json(said)
        return request if app.graph_for(request) == workflow.graph else None
    except SfumatoError:  # from a newer version, or written by hand: the graph is what counts
        return None


def assign(app: App, graph: Graph, text: str) -> Graph:
    """The graph with one input changed by `NODE.INPUT=VALUE`.

    NODE is an id, or a title or type that only one node has. Numbers and truths are written as in JSON, links as ["id", slot]. A
    picture or a model may be a path. Raises BadValueError.
    """
    left, equals, value = text.partition("=")
    name, dot, socket_name = left.rpartition(".")
    if not equals or not dot or not name or not socket_name:
        raise BadValueError(f"{text!r} is not NODE.INPUT=VALUE, such as 3.seed=7", "set")
    key = _node_called(graph, name)
    node = graph.nodes[key]
    return Graph({**graph.nodes, key: replace(node, inputs={**node.inputs, socket_name: _value(app, node, key, socket_name, value)})})


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
            most = Budget().bytes
            if not head.startswith(_PICTURES):
                return head + stream.read(most + 1 - len(head))
    except FileNotFoundError as error:
        raise BadFileError("there is no such file", str(path), "Check the path.") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BadFileError(f"the file cannot be read ({reason})", str(path)) from error
    return read_source(path)[1]


def _of_picture(app: App, data: bytes, path: Path) -> Workflow:
    try:
        open_container(data)
        metadata = read_metadata(data)
    except ImageFileError as error:
        raise ImageFileError(error.what, str(path), error.remedy) from error
    carried = metadata.workflow if metadata.prompt is None else metadata.prompt
    if carried is None:
        remedy = "Give the workflow's JSON file, or a picture that still carries its own."
        if metadata.parameters:
            remedy = f"It carries settings in words: sfumato replay {path.name} works from these."
        raise ImageFileError("the picture carries no workflow", str(path), remedy)
    return Workflow(app.read_workflow(carried, str(path)), metadata.workflow, metadata.record)


def _editor_part(value: Any) -> Any:
    """The editor's form in the body of a `POST /prompt`."""
    for name in ("extra_data", "extra_pnginfo", "workflow"):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _node_called(graph: Graph, name: str) -> str:
    if name in graph.nodes:
        return name
    for part in ("title", "type"):
        found = [key for key, node in graph.nodes.items() if getattr(node, part) == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadValueError(f"{len(found)} nodes are called {name!r}", "set", f"Write an id: {', '.join(found[:10])}.")
    known = {label: None for key, node in graph.nodes.items() for label in (key, node.title, node.type) if label}
    near = difflib.get_close_matches(name, list(known)[:2000], 3, 0.5)
    raise BadValueError(f"there is no node {name!r}", "set", f"Did you mean {' or '.join(near)}?" if near else "Write a node's id.")


def _value(app: App, node: Node, key: str, name: str, text: str) -> Any:
    node_type = app.catalogue.get(node.type)
    socket = node_type.input(name) if node_type else None
    where = f"set {key}.{name}"
    if socket is None:
        if node_type is not None and not node_type.takes_any and name not in node.inputs:
            raise BadValueError(f"{node.type} has no input {name!r}", where, _inputs_of([each.name for each in node_type.inputs]))
        return _from_json(text, text)
    if socket.type in ("STRING", "COMBO"):
        return _chosen(app, socket, text)
    value = _from_json(text, None)
    if value is None or isinstance(value, Mapping):
        raise BadValueError(f"{text!r} is no {socket.type}", where, 'Write a number, true or false, or a link as ["4", 0].')
    return Link(str(value[0]), value[1]) if _is_link(value) else value


def _chosen(app: App, socket: Input, text: str) -> str:
    """A text as it is; a picture or model by path becomes known under the name that is returned."""
    source, _, kind = (socket.source or "").partition(":")
    if source == "images" and text not in app.run_folders().names() and path_of(text).is_file():
        return adopt(app, text)
    if source == "models" and text not in app.library.names(kind):
        return app.library.find_path(kind, text).name
    return text


def _from_json(text: str, otherwise: Any) -> Any:
    try:
        return read_json(text, most_bytes=1 << 20, most_depth=32)
    except JsonFault:
        return otherwise


def _is_link(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def _inputs_of(names: Sequence[str]) -> str:
    return f"Its inputs: {', '.join(names)}." if names else "It has none."
