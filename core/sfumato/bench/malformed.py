"""Workflows with something wrong in them: good ones broken at random, by the thousand, and a few that are hostile on purpose."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from sfumato.recipes import graph_for
from sfumato.request import Borders, ControlUse, GenerateRequest, LoraUse, UpscaleUse

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, -0.0, 1e999, float("nan"), 2**64, 10**40, "", "x" * 5000, "\ud800", "a\x00b", "KSampler", "../../etc/passwd",
    [], [[]], {}, {"a": {"b": []}}, {"__value__": [1]}, ["1", 0], ["nowhere", 0], ["1", 99], ["1", -1], ["1", "0"], [1, 0], ["1"],
    ["1", 0, 0],
)  # fmt: skip


def broken(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(what was done, the text of a workflow), `count` times; the same numbers give the same workflows."""
    good = [graph_for(request).to_json() for request in _requests()]
    for number in range(count):
        source = random.Random(f"{seed} {number}")
        workflow, done = copy.deepcopy(source.choice(good)), []
        for _ in range(source.randint(1, 4)):
            done.append(_break(workflow, source))
        text = json.dumps(workflow)
        if source.random() < 0.15:
            at = source.randrange(len(text))
            text = text[:at] + source.choice(["", "}", '"', "\ud800", "\x00", ","]) + text[at + source.randint(0, 3) :]
            done.append("text cut")
        yield ", ".join(done), text


def _requests() -> list[GenerateRequest]:
    plain = GenerateRequest("a tree")
    return [
        plain,
        GenerateRequest("a tree", image="in.png", mask="mask.png", outpaint=Borders(8, 8, 8, 8), batch=2),
        GenerateRequest(
            "a tree", loras=(LoraUse("a"), LoraUse("b")), controls=(ControlUse("canny", "in.png"),), upscale=UpscaleUse("u", 2.0)
        ),
    ]


def _break(workflow: dict[str, Any], source: random.Random) -> str:
    """Do one wrong thing to a workflow, in place."""
    if not workflow:
        workflow["1"] = {"class_type": "KSampler", "inputs": {}}
    key = source.choice(list(workflow))
    node = workflow[key]
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(inputs, dict) or not inputs:
        workflow[key] = source.choice(ODD_VALUES)
        return "no node"
    name = source.choice(list(inputs))
    way = source.randrange(9)
    if way < 4:
        inputs[name] = source.choice(ODD_VALUES)
        return "odd value"
    if way == 4:
        del inputs[name]
        return "missing input"
    if way == 5:
        node["class_type"] = source.choice(["KSamplr", "", None, 3, "\ud800", "x" * 300, "VAEDecode", "SaveImage"])
        return "other type"
    if way == 6:
        inputs[name] = [source.choice(list(workflow)), source.randint(-1, 5)]  # a cycle, sooner or later
        return "other link"
    if way == 7:
        node["inputs"] = source.choice(ODD_VALUES)
        return "no inputs"
    workflow[source.choice(["", "\ud800", "1.5", "x" * 300, "-1"])] = node
    return "odd id"


def hostile() -> Iterator[tuple[str, str]]:
    """(what it is, the text): what somebody would send on purpose."""
    yield "nothing", ""
    yield "no JSON", "<workflow/>"
    yield "a list", "[]"
    yield "deep", "[" * 100_000
    yield "deep in a node", '{"1": {"class_type": "X", "inputs": {"a": ' + "[" * 5000 + "]" * 5000 + "}}}"
    yield "a number of a million digits", '{"1": {"class_type": "KSampler", "inputs": {"seed": ' + "9" * 1_000_000 + "}}}"
    yield "100,000 nodes", _many(100_000)
    yield "40,000 unknown nodes", _many(40_000, "Nobody")
    yield "20,000 nodes in a row", _row(20_000)
    yield "20,000 nodes in a ring", _row(20_000, is_ring=True)
    yield "a node with 20,000 inputs", json.dumps({"1": {"class_type": "SaveImage", "inputs": {f"i{n}": n for n in range(20_000)}}})
    yield "everything linked to everything", _mesh(150)
    yield "twice the same id", '{"1": {"class_type": "SaveImage"}, "1": {"class_type": "KSampler"}}'
    yield "a text of 5 MB", json.dumps({"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a" * 5_000_000}}})


def _many(count: int, kind: str = "SaveImage") -> str:
    return json.dumps({str(n): {"class_type": kind, "inputs": {}} for n in range(count)})


def _row(count: int, is_ring: bool = False) -> str:
    nodes: dict[str, Any] = {
        str(n): {"class_type": "ImageInvert", "inputs": {"image": [str(n - 1 if n or not is_ring else count - 1), 0]}} for n in range(count)
    }
    nodes["save"] = {"class_type": "SaveImage", "inputs": {"images": [str(count - 1), 0], "filename_prefix": "x"}}
    return json.dumps(nodes)


def _mesh(count: int) -> str:
    links = {f"i{n}": [str(n), 0] for n in range(count)}
    return json.dumps({str(n): {"class_type": "SaveImage", "inputs": {"images": [str(n), 0], **links}} for n in range(count)})
