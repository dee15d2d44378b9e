"""`sfumato generate PROMPT`: from words, pictures and settings to picture files."""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato.app import App
from sfumato.cli import arguments, places
from sfumato.cli.output import add_json_option, note, print_json
from sfumato.cli.request_options import add_request_options, request_of
from sfumato.cli.work import Made, Work
from sfumato.errors import SaveError
from sfumato.recipes import picture_of, saver_of
from sfumato.request import GenerateRequest
from sfumato.saving import next_number, place_for, save_picture

NOTES = """
Without -o the picture is written to a numbered file in the output folder. A batch is written to OUT-1.png, OUT-2.png ...
The picture carries all that is needed to make it again: see `sfumato replay`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of DESIGN's command line."""
    parser.epilog = NOTES
    parser.add_argument("-o", "--output", type=arguments.path_of, metavar="OUT", help="a file; its ending chooses png, webp or jpg")
    add_request_options(parser)
    arguments.add_backend_option(parser)
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Make the pictures. Nothing is written before all of them are there."""
    app = arguments.app_of(options)
    if options.output is None:
        places.prepare_folder(app.folders.output)
    else:
        places.check_picture(options.output)
    request = request_of(app, options)
    with Work(app, backend=options.backend) as work:
        made = generated(work, request)
        files = _written(app, options.output, made)
        result = {"files": [str(path) for path in files], "texts": [], "seed": request.seed, **work.figures()}
    if options.json:
        print_json(result)
    else:
        print("\n".join(map(str, files)))
    return 0


def generated(work: Work, request: GenerateRequest) -> Made:
    """The pictures that answer a request."""
    graph = work.app.graph_for(request)
    return work.pictures(graph, saver_of(graph), picture_of(graph), work.hidden(graph, request))


def _written(app: App, output: Path | None, made: Made) -> list[Path]:
    output = _numbered(app) if output is None else output
    files = [output] if len(made.images) == 1 else [output.with_stem(f"{output.stem}-{place + 1}") for place in range(len(made.images))]
    for place, (path, pixels) in enumerate(zip(files, made.images, strict=True)):
        try:
            written = save_picture(path, pixels, made.carried(place), app.settings.pictures)
        except SaveError as error:
            if place:
                error.remedy = f"{error.remedy} The first {place} of {len(files)} pictures were written."
            raise
        for warning in written.warnings:
            note(f"{path}: {warning}")
    return files


def _numbered(app: App) -> Path:
    folder, stem = place_for(app.folders.output, "sfumato")
    return folder / f"{stem}_{next_number(folder, stem):05}_.{app.settings.pictures.format}"
