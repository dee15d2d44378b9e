"""`sfumato models`: what model files there are, what each is, adding one, and whether they are still good."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sfumato_resources
from sfumato.app import App
from sfumato.cli import arguments
from sfumato.cli.output import Bar, add_json_option, print_json
from sfumato.errors import ModelMissingError
from sfumato.models import ModelFile, ModelHashes
from sfumato.models.adding import add_model
from sfumato.models.layouts import FOLDER_NAMES
from sfumato.models.safetensors_file import read_header
from sfumato.models.verifying import Verified, duplicates, verify
from sfumato.progress import Progress

NOTES = """
A file of any model is looked at, never opened in a way that could run code. Exit code of `verify`: 3 if a file is unusable or changed.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """list, add, info and verify."""
    parser.epilog = NOTES
    parser.set_defaults(verb="list", kind=None)
    _add_options(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    listing = verbs.add_parser("list", help="all models by kind, and where they are")
    listing.add_argument("kind", nargs="?", choices=tuple(FOLDER_NAMES), metavar="KIND", help=", ".join(FOLDER_NAMES))
    adding = verbs.add_parser("add", help="copy a model into the folder of its kind")
    adding.add_argument("path", type=arguments.path_of, metavar="PATH", help="a safetensors file, or a folder in diffusers layout")
    adding.add_argument("--kind", choices=tuple(FOLDER_NAMES), help="what it is, where the file does not tell")
    adding.add_argument("--name", default="", help="its name there")
    info = verbs.add_parser("info", help="what a file is, and why")
    info.add_argument("file", metavar="FILE", help="a path, or the name of a model")
    verifying = verbs.add_parser("verify", help="read every byte: is it readable, unchanged, there only once?")
    verifying.add_argument("names", nargs="*", metavar="NAME", help="these models only")
    for verb in (listing, adding, info, verifying):
        _add_options(verb, default=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Whichever verb was asked for."""
    app = arguments.app_of(options)
    verbs = {"list": _list, "add": _add, "info": _info, "verify": _verify}
    return verbs[options.verb or "list"](app, options)


def _add_options(parser: argparse.ArgumentParser, default: Any = False) -> None:
    add_json_option(parser, default)
    arguments.add_settings_option(parser, default)


def _list(app: App, options: argparse.Namespace) -> int:
    files = list(_files(app, [options.kind] if options.kind else app.library.kinds))
    if options.json:
        print_json({"models": [{"kind": f.kind, "name": f.name, "path": str(f.path), "source": _source(app, f)} for f in files]})
        return 0
    for kind in dict.fromkeys(file.kind for file in files):
        print(kind)
        for file in files:
            if file.kind == kind:
                print(f"  {file.name:<44} {_source(app, file)}")
    if not files:
        print("none")
    return 0


def _add(app: App, options: argparse.Namespace) -> int:
    bar = Bar()
    try:
        added = add_model(
            app.library,
            ModelHashes(app.folders.cache),
            options.path,
            app.recognise,
            kind=options.kind or "",
            name=options.name,
            progress=Progress(bar.step),
        )
    finally:
        bar.clear()
    file = added.file
    if options.json:
        found = {"kind": file.kind, "name": file.name, "path": str(file.path), "sha256": added.sha256, "is_new": added.is_new}
        print_json({**found, "reason": added.recognised.reason, "left_out": list(added.left_out)})
        return 0
    print(f"{file.path}\n  {added.recognised.reason}" if added.is_new else f"{file.path} is the same file already")
    if added.left_out:
        print(f"  left out, because a model needs none of it: {', '.join(added.left_out)}")
    return 0


def _info(app: App, options: argparse.Namespace) -> int:
    file = _found(app, options.file)
    recognised = app.recognise(file)
    facts: dict[str, Any] = {
        "path": str(file.path),
        "kind": recognised.kind,
        "family": recognised.family,
        "reason": recognised.reason,
        "details": dict(recognised.details),
        **_weights(file),
        "sha256": _hash(app, file),
    }
    if options.json:
        print_json(facts)
        return 0
    for name, value in facts.items():
        shown = ", ".join(f"{key}: {each}" for key, each in value.items()) if isinstance(value, dict) else value
        if value not in ("", {}, None):
            print(f"{name:<12}{f'{shown:,}' if type(shown) is int else shown}")
    print(f"{'short hash':<12}{facts['sha256'][:10]}")
    return 0


def _verify(app: App, options: argparse.Namespace) -> int:
    files = [_found(app, name) for name in options.names] if options.names else list(_files(app, app.library.kinds))
    bar, found = Bar(), list[Verified]()
    try:
        for each in verify(files, ModelHashes(app.folders.cache), Progress(bar.step)):
            found.append(each)
            bar.clear()
            if not options.json:
                print(
                    f"{each.state:<9} {each.file.kind}/{each.file.name}" + (f"\n          {each.words}" if each.words else ""), flush=True
                )
    finally:
        bar.clear()
    twice = duplicates(found)
    if options.json:
        models = [{"kind": v.file.kind, "name": v.file.name, "state": v.state, "sha256": v.sha256, "words": v.words} for v in found]
        print_json({"models": models, "duplicates": [[str(file.path) for file in group] for group in twice]})
    else:
        for group in twice:
            print("the same bytes: " + ", ".join(str(file.path) for file in group))
    return 0 if all(each.state == "good" for each in found) else 3


def _files(app: App, kinds: Iterable[str]) -> Iterable[ModelFile]:
    for kind in kinds:
        for name in app.library.names(kind):
            yield app.library.find(kind, name)


def _found(app: App, text: str) -> ModelFile:
    """A path first: `info` is asked about files that are in no model folder."""
    path = arguments.path_of(text)
    if path.exists():
        return ModelFile("", path.name, path.absolute())
    for kind in app.library.kinds:
        try:
            return app.library.find(kind, text)
        except ModelMissingError:
            continue
    raise ModelMissingError("there is no such file, and no model of this name", text, "`sfumato models list` shows what there is.")


def _source(app: App, file: ModelFile) -> str:
    if file.path.is_relative_to(Path(sfumato_resources.__file__).parent):
        return "ships with Sfumato"
    return "yours" if file.path.is_relative_to(app.folders.models) else str(file.path)


def _weights(file: ModelFile) -> dict[str, Any]:
    """Size, tensors, parameters and number formats; of a folder the size alone."""
    if file.is_folder:
        return {"bytes": sum(path.stat().st_size for path in file.path.rglob("*") if path.is_file())}
    header = read_header(file.path)
    counts: dict[str, int] = {}
    for info in header.tensors.values():
        number = 1
        for side in info.shape:
            number *= side
        counts[info.dtype] = counts.get(info.dtype, 0) + number
    metadata = {key: value[:200] for key, value in list(header.metadata.items())[:50]}
    return {"bytes": header.size, "tensors": len(header.tensors), "parameters": counts, "metadata": metadata}


def _hash(app: App, file: ModelFile) -> str:
    bar = Bar()
    try:
        return app.hash_of(file, Progress(bar.step))
    finally:
        bar.clear()
