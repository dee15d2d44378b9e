"""The record that a picture carries of how it was made: enough to make it again, and to say what has changed if that fails.

What a record from a stranger names is looked at only where its hash is right: then whoever wrote it knew the content already.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sfumato
from sfumato.errors import ImageFileError, ModelFileError, ModelMissingError
from sfumato.graph import Graph
from sfumato.images.reading import MOST_FILE_BYTES
from sfumato.models import ModelFile
from sfumato.models.layouts import kind_of
from sfumato.progress import Progress
from sfumato.request import GenerateRequest
from sfumato.saving import parameters_of

if TYPE_CHECKING:
    from sfumato.app import App

FORMAT = 1
_EMBEDDING = re.compile(r"(?<!\w)embedding:([^\s()\[\]:,]+)")


def hidden_of(
    app: App,
    graph: Graph,
    request: GenerateRequest | None = None,
    workflow: Any = None,
    progress: Progress | None = None,
    machine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What travels with a run (`ctx.hidden`): the graph, the UI workflow (one of the graph if none came), the A1111 line and the record.

    Hashes every model of the graph, which takes a while the first time; `progress` hears of it. `machine` is that of an engine in another
    process (`ChildBackend.machine`); otherwise the engine of this one is asked.
    """
    models = dict(models_of(app, graph, progress))
    record: dict[str, Any] = {
        "format": FORMAT,
        "versions": versions(),
        "machine": app.machine() if machine is None else dict(machine),
        "models": models,
        "model_files": _typed_files(app, graph),
        "pictures": dict(pictures_of(app, graph)),
    }
    workflow = workflow or app.editor_workflow(graph)
    extra = {"workflow": workflow} if workflow else {}
    hidden: dict[str, Any] = {"prompt": graph.to_json(), "record": record, "extra_pnginfo": extra}
    if request is not None:
        record |= {"request": request.to_json(), "seed": request.seed}
        hidden["parameters"] = parameters_of(request, models.get(f"checkpoints/{request.model}", "")[:10])
    return hidden


def models_of(app: App, graph: Graph, progress: Progress | None = None) -> Iterator[tuple[str, str]]:
    """(`kind/name`, sha256) of every model file that the graph names and that is there."""
    for kind, name in named(app, graph, "models"):
        try:
            yield f"{kind}/{name}", app.hash_of(app.library.find(kind, name), progress)
        except (ModelMissingError, ModelFileError):  # the node that needs it says so, if one does
            continue


def pictures_of(app: App, graph: Graph) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, {"path", "sha256"}) of every picture that the graph reads and that is there."""
    for _, name in named(app, graph, "images"):
        try:
            path = app.run_folders().picture(name)
        except ImageFileError:  # as above
            continue
        yield name, {"path": str(path.absolute()), "sha256": _sha256(path)}


def versions() -> dict[str, str]:
    """Versions that a picture depends on, without importing what they are of."""
    return {"sfumato": sfumato.__version__, **{name: version(name) for name in ("torch", "diffusers", "transformers")}}


@dataclass(frozen=True)
class Adopted:
    """Pictures that a run needs: those that have changed since the record was written, and those that are gone (name -> old path)."""

    changed: tuple[str, ...] = ()
    gone: Mapping[str, str] = field(default_factory=dict)


def adopt(app: App, record: Any, graph: Graph) -> Adopted:
    """Let the pictures and models that the record names by path be found, where they are still the same.

    A picture that was moved is found in the input folder, under any name.
    """
    changed, gone = [], {}
    for _, name in named(app, graph, "images"):
        entry = _table(_table(record, "pictures"), name)
        path = _found_picture(app, name, entry)
        if path is not None:
            app.pictures[name] = path
        elif not _is_there(app, name):
            gone[name] = str(entry.get("path", ""))
        elif entry:
            changed.append(name)
    for key, path in _table(record, "model_files").items():
        kind, _, name = key.partition("/")
        if isinstance(path, str) and kind in app.library.kinds and name not in app.library.names(kind):
            _adopt_model(app, ModelFile(kind, name, Path(path)), _table(record, "models").get(key))
    return Adopted(tuple(changed), gone)


def changes(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the record of a picture and that of a new run (`hidden["record"]`), in words."""
    words = []
    for what, then in _table(record, "versions").items():
        if now["versions"].get(what) != then:
            words.append(f"{what} was {then}, is {now['versions'].get(what, 'not there')}")
    for what, then in _table(record, "machine").items():
        if now["machine"].get(what) != then:
            words.append(f"{what} was {then}, is {now['machine'].get(what, 'unknown')}")
    for what, then in _table(record, "models").items():
        if what in now["models"] and now["models"][what] != then:
            words.append(f"the model {what} is not the same file")
    for what, entry in _table(record, "pictures").items():
        if isinstance(entry, dict) and what in now["pictures"] and now["pictures"][what]["sha256"] != entry.get("sha256"):
            words.append(f"the picture {what} is not the same file")
    rung = record.get("rung")
    return [*words, f"the memory rung was {rung}, is {now['rung']}"] if rung and rung != now.get("rung", rung) else words


def _typed_files(app: App, graph: Graph) -> dict[str, str]:
    """`kind/name` -> path of the models that lie outside the model folders."""
    found = {}
    for kind, name in named(app, graph, "models"):
        if name in app.library.names(kind) and app.library.is_typed(file := app.library.find(kind, name)):
            found[f"{kind}/{name}"] = str(file.path)
    return found


def named(app: App, graph: Graph, wanted: str) -> list[tuple[str, str]]:
    """(kind, name) of everything that the nodes choose from one source (`images`, `models`), each once."""
    found: dict[tuple[str, str], None] = {}
    for node in graph.nodes.values():
        node_type = app.catalogue.get(node.type)
        for socket in node_type.inputs if node_type else ():
            value = node.inputs.get(socket.name)
            source, _, kind = (socket.source or "").partition(":")
            if isinstance(value, str) and source == wanted:
                found[kind_of(kind), value] = None
            elif isinstance(value, str) and socket.type == "STRING" and wanted == "models":
                found |= {("embeddings", name): None for name in _EMBEDDING.findall(value)}
    return list(found)


def _adopt_model(app: App, file: ModelFile, digest: Any) -> None:
    try:
        if (_is_ordinary(file.path) or file.is_folder) and app.hash_of(file) == digest:
            app.library.know(file.kind, file.path, file.name)
    except ModelFileError:  # what lies there now is no model: the one of the record is missing, and is told as such
        return


def _found_picture(app: App, name: str, entry: Mapping[str, Any]) -> Path | None:
    """The very picture of the record: where it was, under its name, or under another in the input folder."""
    digest, path, folders = entry.get("sha256"), entry.get("path"), app.run_folders()
    if not isinstance(digest, str):
        return None
    places = [Path(path)] if isinstance(path, str) else []
    names = [name, *folders.names()] if _is_there(app, name) else folders.names()
    return next((place for place in (*places, *map(folders.picture, names)) if _is_same(place, digest)), None)


def _is_there(app: App, name: str) -> bool:
    try:
        app.run_folders().picture(name)
    except ImageFileError:
        return False
    return True


def _is_same(path: Path, digest: Any) -> bool:
    return _is_ordinary(path) and path.stat().st_size <= MOST_FILE_BYTES and _sha256(path) == digest


def _is_ordinary(path: Path) -> bool:
    """Whether this is an ordinary file: what a stranger names may be a device that never ends."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ImageFileError(f"the file cannot be read ({error.strerror})", str(path)) from error


def _table(record: Any, name: str) -> Mapping[str, Any]:
    """A part of a record that may come from a stranger; empty if it is none."""
    part = record.get(name) if isinstance(record, dict) else None
    return part if isinstance(part, dict) else {}
