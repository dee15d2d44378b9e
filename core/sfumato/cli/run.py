"""`sfumato run WORKFLOW`: a workflow in ComfyUI's API or UI format, or the picture that carries one, checked and run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.app import App
from sfumato.cli import arguments, places
from sfumato.cli.output import add_json_option, error_json, fault_json, note, print_json
from sfumato.cli.work import Work
from sfumato.cli.workflow_check import Missing, check
from sfumato.cli.workflows import assign, read_workflow, request_behind
from sfumato.errors import CancelledError, SfumatoError
from sfumato.events import NodeCached, NodeDone, NodeFailed
from sfumato.graph import Graph
from sfumato.records import adopt

NOTES = """
WORKFLOW is a JSON file in API format or as ComfyUI's editor saves it, or a picture that carries one. Its nodes find pictures in the input
folder, and write below the output folder or DIR; pictures and models elsewhere can be named with --set, such as
--set 10.image=/some/picture.png.

Outputs that cannot run do not stop those that can: the result names the files that were written and every error.
Exit code 0: all is done; 3: the workflow is faulty; 4: only models are missing; else what the first node failed with.
With --check nothing runs; the codes are the same.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The workflow, what is changed in it, and where its pictures go."""
    parser.epilog = NOTES
    parser.add_argument("workflow", type=arguments.path_of, metavar="WORKFLOW", help="a JSON file or a picture")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change an input; again for more")
    parser.add_argument("--check", action="store_true", help="list what is missing or wrong, and run nothing")
    parser.add_argument("--output-dir", type=arguments.path_of, metavar="DIR", help="a folder instead of the output folder")
    arguments.add_engine_options(parser)
    arguments.add_backend_option(parser)
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run all outputs of the workflow, as far as they can run."""
    app = arguments.app_of(options)
    workflow = read_workflow(app, options.workflow)
    graph = workflow.graph
    adopted = adopt(app, workflow.record, graph)
    for text in options.set:
        graph = assign(app, graph, text)
    missing = check(app, graph)
    if options.check:
        return _report(missing, as_json=options.json)
    _prepare(app, options.output_dir)
    if not missing.good_targets:
        raise missing.error(str(options.workflow))
    for name in adopted.changed:
        note(f"the picture {name} has changed since this workflow was run")
    request, editor = request_behind(app, workflow), workflow.editor
    if options.set:
        request, editor = None, app.editor_workflow(graph, editor)
    with Work(app, options.output_dir, options.backend) as work:
        hidden = work.hidden(graph, request, editor)
        done = Outputs(list(missing.good_targets))
        done.work_out(work, graph, hidden)
        if done.errors and not done.finished:
            raise done.errors[0]
        return _tell(app, options, missing, done, {"seed": _seed_of(app, graph, missing.good_targets), **work.figures()})


@dataclass
class Outputs:
    """The outputs of a workflow at work: those left to do and those finished, what nodes have shown, and what went wrong."""

    left: list[str]
    finished: list[str] = field(default_factory=list)
    shown: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: list[SfumatoError] = field(default_factory=list)
    _failed: set[str] = field(default_factory=set)

    def hear(self, event: Any) -> None:
        """Takes any event of a run."""
        if isinstance(event, (NodeDone, NodeCached)):
            if event.shown:
                self.shown[event.node_id] = event.shown
            if event.node_id in self.left:
                self.left.remove(event.node_id)
                self.finished.append(event.node_id)
        elif isinstance(event, NodeFailed):
            self._failed.add(event.display_id)

    def work_out(self, work: Work, graph: Graph, hidden: Mapping[str, Any]) -> None:
        """Run what is left; when a node fails, go on with what does not need it. Results are kept, so that nothing runs twice."""
        while self.left:
            try:
                work.run(graph, tuple(self.left), hidden, self.hear)
                return
            except CancelledError:
                raise
            except SfumatoError as error:
                self.errors.append(error)
                if not self._failed:
                    return
            self.left = [key for key in self.left if not graph.ancestors([key]) & self._failed]


def _tell(app: App, options: argparse.Namespace, missing: Missing, done: Outputs, figures: Mapping[str, Any]) -> int:
    files, previews = _files(app, options.output_dir, done)
    texts = [str(text) for shown in done.shown.values() for text in shown.get("text", ())]
    for error in done.errors:
        note(str(error))
    if missing.faults:
        note(str(missing.error(str(options.workflow))))
    for warning in (str(warning) for shown in done.shown.values() for warning in shown.get("warnings", ())):
        note(warning)
    if options.json:
        errors = [*(fault_json(fault) for fault in missing.faults), *(error_json(error) for error in done.errors)]
        print_json({"files": files, "previews": previews, "texts": texts, "errors": errors, **figures})
    else:
        for line in (*files, *previews, *texts):
            print(line)
    if missing.faults:
        return missing.error().exit_code
    return done.errors[0].exit_code if done.errors else 0


def _files(app: App, output: Path | None, done: Outputs) -> tuple[list[str], list[str]]:
    """(files in the output folder, those in the temporary one) that nodes say they have written."""
    folders = app.run_folders(output)
    found: dict[str, dict[str, None]] = {"output": {}, "temp": {}}
    for shown in done.shown.values():
        for entry in (each for part in shown.values() if isinstance(part, (list, tuple)) for each in part):
            if isinstance(entry, Mapping) and "filename" in entry and entry.get("type") in found:
                kind = entry["type"]
                found[kind][str(getattr(folders, kind) / str(entry.get("subfolder", "")) / str(entry["filename"]))] = None
    return list(found["output"]), list(found["temp"])


def _seed_of(app: App, graph: Graph, targets: Sequence[str]) -> int | None:
    """The first seed among what the targets need."""
    for key in graph.order(targets):
        for name in ("seed", "noise_seed"):
            value = graph.nodes[key].inputs.get(name)
            if type(value) is int:
                return value
    return None


def _prepare(app: App, output: Path | None) -> None:
    if output is None:
        places.prepare_folder(app.folders.output)
    else:
        places.check_folder(output)


def _report(missing: Missing, *, as_json: bool) -> int:
    if as_json:
        print_json(missing.to_json())
    else:
        print("\n".join(missing.lines()) or "nothing is missing: the workflow can run")
    return missing.error().exit_code if missing else 0
