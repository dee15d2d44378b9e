"""`sfumato replay IMAGE`: make a picture again from what it carries, and say whether it is the same, bit for bit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.app import App
from sfumato.cli import arguments, places
from sfumato.cli.comparing import Difference, difference
from sfumato.cli.output import add_json_option, note, print_json
from sfumato.cli.work import Made, Work
from sfumato.cli.workflow_check import check
from sfumato.cli.workflows import Workflow, request_behind
from sfumato.cli.written_settings import request_from
from sfumato.errors import ImageFileError, UsageError
from sfumato.graph import Graph, Link
from sfumato.images.metadata import PictureMetadata, read_metadata
from sfumato.images.reading import read_image, read_source
from sfumato.images.writing import to_8_bits
from sfumato.recipes import saver_of
from sfumato.records import FORMAT, adopt, changes
from sfumato.request import GenerateRequest
from sfumato.saving import save_picture

NOTES = """
A picture of Sfumato carries its graph and a record of versions, models, pictures and the machine: on the same machine it comes out
the same, bit for bit. Pictures of ComfyUI carry the graph only, those of A1111-style tools settings in words: they are followed as far
as they go. The answer is on stdout ("identical" with --json); where pixels differ it says how much, and what has changed since.
Exit code 0: the picture was made again, whether or not it is the same; 3: IMAGE carries nothing usable; 4: a model is missing.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The picture, and where the new one goes."""
    parser.epilog = NOTES
    parser.add_argument("image", type=arguments.path_of, metavar="IMAGE", help="a picture of sfumato, ComfyUI or an A1111-style tool")
    parser.add_argument("-o", "--output", type=arguments.path_of, metavar="OUT", help="write the new picture, too")
    arguments.add_engine_options(parser)
    add_json_option(parser)


@dataclass(frozen=True)
class Plan:
    """What to run: the graph, the nodes that may have saved the picture, its place in the batch (-1: not known), and remarks."""

    graph: Graph
    savers: tuple[str, ...]
    index: int = -1
    record: Any = None
    editor: Any = None
    request: GenerateRequest | None = None
    words: tuple[str, ...] = ()


def run(options: argparse.Namespace) -> int:
    """Make the picture again and compare."""
    app = arguments.app_of(options)
    if options.output is not None:
        _check_output(options.output, options.image)
    where, data = read_source(options.image)
    old = to_8_bits(read_image(options.image, most_pixels=app.settings.pictures.most_megapixels * 1_000_000))
    plan = _plan(app, read_metadata(options.image), where)
    with Work(app) as work:
        hidden = work.hidden(plan.graph, plan.request, plan.editor)
        found, made, index = _nearest(work, plan, old, hidden)
        reasons = [] if found.is_identical else _reasons(plan, {**hidden["record"], "rung": made.rung}, data)
        files = _written(app, options.output, made, index)
        figures = work.figures()
    seed = plan.record.get("seed") if isinstance(plan.record, dict) else plan.request.seed if plan.request else None
    if options.json:
        print_json({**found.to_json(), "reasons": reasons, "files": files, "texts": [], "seed": seed, **figures})
    else:
        print("\n".join([str(found), *(f"  {reason}" for reason in reasons), *files]))
    return 0


def _check_output(output: Path, image: Path) -> None:
    places.check_picture(output)
    if output.exists() and image.exists() and output.samefile(image):
        raise UsageError("this would overwrite the picture itself", str(output), "Write the new one elsewhere.")


def _plan(app: App, metadata: PictureMetadata, where: str) -> Plan:
    record = metadata.record
    if isinstance(record, dict) and "sweep" in record:
        raise ImageFileError("this is a sheet of many pictures", where, "Run the sweep again: its settings are in the record.")
    if metadata.prompt is not None or metadata.workflow is not None:
        plan = _of_graph(app, metadata, where)
    elif metadata.parameters:
        request, words = request_from(app, metadata.settings, where)
        graph = app.graph_for(request)
        plan = Plan(graph, (saver_of(graph),), request=request, words=("it carries settings in words only", *words))
    else:
        remedy = "Only pictures that still carry their graph or settings can be made again."
        raise ImageFileError("the picture carries nothing of how it was made", where, remedy)
    _check(app, plan, where)
    return plan


def _of_graph(app: App, metadata: PictureMetadata, where: str) -> Plan:
    graph, record = app.read_workflow(metadata.workflow if metadata.prompt is None else metadata.prompt, where), metadata.record
    adopted = adopt(app, record, graph)
    if adopted.gone:
        name, path = next(iter(adopted.gone.items()))
        remedy = f"Put the same picture into {app.folders.input}, under any name."
        raise ImageFileError(f"the picture {name!r} that it was made from is not there any more", path or where, remedy)
    target = record.get("target") if isinstance(record, dict) else None
    index = record.get("index") if isinstance(record, dict) else None
    if isinstance(target, str) and target in graph.nodes and isinstance(index, int) and _pictures_into(graph, target):
        words = [f"the picture {name} has changed since" for name in adopted.changed]
        request = request_behind(app, Workflow(graph, None, record))
        return Plan(graph, (target,), index, record, metadata.workflow, request, tuple(words))
    words = ["it carries no record of Sfumato: versions, models and machine of its making are not known"]
    return Plan(graph, tuple(_savers(app, graph)), -1, record, metadata.workflow, None, tuple(words))


def _check(app: App, plan: Plan, where: str) -> None:
    """Raises WorkflowError or ModelMissingError for what stands in the way."""
    if not plan.savers:
        raise ImageFileError("the workflow that the picture carries saves no picture", where)
    missing = check(app, plan.graph, [link.node for key in plan.savers if (link := _pictures_into(plan.graph, key))])
    if missing.models or not missing.good_targets:
        raise missing.error(where)


def _savers(app: App, graph: Graph) -> Iterator[str]:
    """The nodes that may have saved a picture: output nodes, and those of unknown types at the end of the graph."""
    used = {link.node for node in graph.nodes.values() for _, link in node.links()}
    for key, node in graph.nodes.items():
        node_type = app.catalogue.get(node.type)
        may_save = node_type.is_output if node_type else key not in used
        if may_save and _pictures_into(graph, key):
            yield key


def _pictures_into(graph: Graph, key: str) -> Link | None:
    """The link at the input for pictures, as all nodes that save some call it."""
    links = dict(graph.nodes[key].links())
    return links.get("images") or links.get("image")


def _nearest(work: Work, plan: Plan, old: NDArray[np.uint8], hidden: Mapping[str, Any]) -> tuple[Difference, Made, int]:
    """The new picture that is nearest to the old one: the one at its place, or the best of all where that is not known."""
    found: list[tuple[Difference, Made, int]] = []
    for key in plan.savers:
        link = _pictures_into(plan.graph, key)
        if link is not None:
            made = work.pictures(plan.graph, key, link, hidden)
            indices = [plan.index] if 0 <= plan.index < len(made.images) else range(len(made.images))
            found += [(difference(old, to_8_bits(made.images[index])), made, index) for index in indices]
    return min(found, key=lambda each: (each[0].mean, each[0].differing))


def _reasons(plan: Plan, now: Mapping[str, Any], data: bytes) -> list[str]:
    words = list(plan.words)
    if isinstance(plan.record, dict):
        words += [word for word in changes(plan.record, now) if word not in words]
        if plan.record.get("format") != FORMAT:
            words.append(f"its record has the format {plan.record.get('format')}, known is {FORMAT}")
    if data.startswith(b"\xff\xd8\xff") or (data.startswith(b"RIFF") and b"VP8L" not in data[:4096]):
        words.append("the file is lossy: its pixels are not quite those that were made")
    return words or ["the record shows no change: the pixels may have been edited, or the machine does not compute the same twice"]


def _written(app: App, output: Path | None, made: Made, index: int) -> list[str]:
    if output is None:
        return []
    for warning in save_picture(output, made.images[index], made.carried(index), app.settings.pictures).warnings:
        note(f"{output}: {warning}")
    return [str(output)]
