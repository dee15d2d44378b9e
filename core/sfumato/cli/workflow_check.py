"""What stands between a workflow and its run: nodes and models that are missing, and everything else that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.app import App
from sfumato.cli.output import fault_json
from sfumato.errors import ModelMissingError, SfumatoError
from sfumato.faults import Fault, shown, workflow_error
from sfumato.graph import Graph
from sfumato.records import named
from sfumato.validation import validate


@dataclass(frozen=True)
class MissingModel:
    """A model that nodes ask for and that is in none of the folders of its kind."""

    kind: str
    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """All faults of a workflow, and which of them are missing nodes or models. `good_targets` are the outputs that can run."""

    good_targets: tuple[str, ...]
    faults: tuple[Fault, ...]
    nodes: dict[str, list[str]]
    models: tuple[MissingModel, ...]
    others: tuple[Fault, ...]

    def __bool__(self) -> bool:
        """Whether anything is missing or wrong."""
        return bool(self.faults or self.models)

    def error(self, where: str = "") -> SfumatoError:
        """The faults as one error: ModelMissingError if only models are missing, else WorkflowError."""
        if self.models and not self.nodes and not self.others:
            names = ", ".join(f"{model.kind}/{model.name}" for model in self.models)
            what = f"{len(self.models)} models that the workflow names are missing: {names}"
            return ModelMissingError(what, where, "Put them into the model folders: `sfumato models add FILE`.")
        return workflow_error(self.faults, where)

    def to_json(self) -> dict[str, Any]:
        """The three lists of `run --check --json`."""
        return {
            "missing_nodes": [{"type": name, "nodes": keys} for name, keys in self.nodes.items()],
            "missing_models": [{"kind": model.kind, "name": model.name, "nodes": list(model.nodes)} for model in self.models],
            "errors": [fault_json(fault) for fault in self.others],
        }

    def lines(self) -> list[str]:
        """The same in words, a line each."""
        words = [f"missing node: {shown(name)} ({_nodes(keys)})" for name, keys in self.nodes.items()]
        words += [f"missing model: {model.kind}/{shown(model.name)} ({_nodes(model.nodes)})" for model in self.models]
        return words + [f"error: {fault}" + (f"\n  {fault.remedy}" if fault.remedy else "") for fault in self.others]


def check(app: App, graph: Graph, targets: Iterable[str] | None = None) -> Missing:
    """Check what `targets` need (all output nodes if None) without running anything of it."""
    validation = validate(graph, app.catalogue, targets)
    nodes: dict[str, list[str]] = {}
    models: dict[tuple[str, str], list[str]] = {}
    others: list[Fault] = []
    for fault in validation.faults:
        source, _, kind = str(fault.extra_info.get("source", "")).partition(":")
        if fault.type == "missing_node_type":
            nodes.setdefault(fault.node_type, []).append(fault.node_id)
        elif fault.type == "value_not_in_list" and source == "models":
            models.setdefault((kind, str(graph.nodes[fault.node_id].inputs[fault.input_name])), []).append(fault.node_id)
        else:
            others.append(fault)
    for name in _missing_embeddings(app, graph):
        models.setdefault(("embeddings", name), [])
    found = tuple(MissingModel(kind, name, tuple(keys)) for (kind, name), keys in models.items())
    return Missing(validation.good_targets, validation.faults, nodes, found, tuple(others))


def _missing_embeddings(app: App, graph: Graph) -> Iterable[str]:
    """Embeddings that prompts name: no socket does, so that only their encoding would find it out."""
    for kind, name in named(app, graph, "models"):
        if kind == "embeddings":
            try:
                app.library.find(kind, name)
            except ModelMissingError:
                yield name


def _nodes(keys: Sequence[str]) -> str:
    return f"{'node' if len(keys) == 1 else 'nodes'} {', '.join(keys)}" if keys else "in a prompt"
