"""The record that a picture carries of how it was made: enough to make it again, and to say what has changed if that fails."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sfumato
from sfumato.graph import Graph
from sfumato.request import GenerateRequest
from sfumato.saving import parameters_of

if TYPE_CHECKING:
    from sfumato.app import App

FORMAT = 1


def hidden_of(app: App, graph: Graph, request: GenerateRequest | None = None, workflow: Any = None) -> dict[str, Any]:
    """What travels with a run (`ctx.hidden`): the graph, the UI workflow if there is one, the A1111 line and the record."""
    prompt = graph.to_json()
    models = models_of(app, graph)
    record: dict[str, Any] = {
        "format": FORMAT,
        "versions": versions(),
        "device": "cpu" if app.cpu else "auto",
        "precision": app.precision,
        "models": models,
        "pictures": {name: _fingerprint(path) for name, path in app.pictures.items()},
        "rung": "full",
    }
    hidden: dict[str, Any] = {"prompt": prompt, "record": record, "extra_pnginfo": {"workflow": workflow} if workflow else {}}
    if request is not None:
        record |= {"request": request.to_json(), "seed": request.seed}
        model_hash = models.get(f"checkpoints/{request.model}", "")
        hidden["parameters"] = parameters_of(request, model_hash[:10], request.clip_skip)
    return hidden


def models_of(app: App, graph: Graph) -> dict[str, str]:
    """sha256 of every model file that the graph names, by `kind/name`."""
    found: dict[str, str] = {}
    for node in graph.nodes.values():
        node_type = app.catalogue.get(node.type)
        for socket in node_type.inputs if node_type else ():
            name = node.inputs.get(socket.name)
            if socket.source and socket.source.startswith("models:") and isinstance(name, str):
                kind = socket.source.partition(":")[2]
                found[f"{kind}/{name}"] = app.hash_of(app.library.find(kind, name))
    return found


def versions() -> dict[str, str]:
    """Versions that a picture depends on, without importing what they are of."""
    return {"sfumato": sfumato.__version__, **{name: version(name) for name in ("torch", "diffusers", "transformers")}}


def changes(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the record of a picture and this machine, in words."""
    words = []
    for what, then in (record.get("versions") or {}).items():
        if now["versions"].get(what) != then:
            words.append(f"{what} was {then}, is {now['versions'].get(what)}")
    for what, then in (record.get("models") or {}).items():
        if now["models"].get(what) != then:
            words.append(f"the model {what} is not the same file")
    for what in ("device", "precision"):
        if record.get(what) not in (None, now[what]):
            words.append(f"{what} was {record[what]}, is {now[what]}")
    return words


def _fingerprint(path: Path) -> dict[str, str]:
    return {"path": str(path.absolute()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
