"""`sfumato generate PROMPT`: from words, pictures and settings to picture files."""

from __future__ import annotations

import argparse
import difflib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfumato.app import App
from sfumato.cli import arguments
from sfumato.cli.output import Bar, cancel_on_interrupt, note, peak_bytes, print_json
from sfumato.cli.pictures import adopt, size_of
from sfumato.errors import BadValueError, UsageError
from sfumato.images.writing import format_of, write_image
from sfumato.models.defaults import Defaults, defaults_for
from sfumato.recipes import picture_of
from sfumato.records import hidden_of
from sfumato.request import Borders, ControlUse, GenerateRequest, LoraUse, UpscaleUse
from sfumato.saving import metadata_of, next_number, place_for


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of DESIGN's command line."""
    parser.add_argument("prompt", metavar="PROMPT", help="what the picture shows; (word:1.3) weighs, [a:b:0.5] changes half-way")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="png, webp or jpg; without it, a numbered file in the output folder"
    )
    parser.add_argument("--negative", default="", metavar="TEXT", help="what it does not show")
    parser.add_argument("--model", default="embedded", metavar="M", help="a checkpoint by name or path")
    parser.add_argument("--vae", default="", metavar="V", help="an autoencoder instead of the model's own")
    parser.add_argument("--width", type=int, metavar="W")
    parser.add_argument("--height", type=int, metavar="H")
    parser.add_argument("--steps", type=int, metavar="N")
    parser.add_argument("--cfg", type=float, metavar="C", help="how strictly the prompt is followed")
    parser.add_argument("--sampler", metavar="S")
    parser.add_argument("--schedule", metavar="K")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same picture; without it, a random one")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="how many pictures")
    parser.add_argument("--image", metavar="IN", help="a picture to start from")
    parser.add_argument("--strength", type=float, metavar="X", help="how much of it may change, 0 to 1 (0.75; with --outpaint 1)")
    parser.add_argument("--mask", metavar="MASK", help="a picture that is white where IN may change")
    parser.add_argument("--outpaint", type=arguments.borders, metavar="L,T,R,B", help="pixels to paint around IN")
    parser.add_argument("--lora", action="append", default=[], type=arguments.with_number, metavar="FILE[:WEIGHT]")
    parser.add_argument("--control", action="append", default=[], type=arguments.control, metavar="KIND:IMAGE[:STRENGTH]")
    parser.add_argument("--upscale", type=arguments.with_number, metavar="M[:FACTOR]")
    parser.add_argument("--clip-skip", type=int, default=1, metavar="N", help="1 is the text encoder's last layer, 2 the one before")
    parser.add_argument("--json", action="store_true", help="the last line of stdout is one JSON object")
    arguments.add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Make the pictures. Nothing is written before all of them are there."""
    app = App.make(cpu=options.cpu, precision=options.precision)
    if options.output is not None:
        format_of(options.output)
        _check_place(options.output)
    request = request_of(app, options)
    start = time.perf_counter()
    images, hidden, target = _generated(app, request)
    files = _written(app, options.output, images, hidden, target)
    seconds = time.perf_counter() - start
    if options.json:
        more = {"seed": request.seed, "seconds": round(seconds, 3), "rung": hidden["record"]["rung"], "peak_bytes": peak_bytes()}
        print_json({"files": [str(path) for path in files], "texts": [], **more})
    else:
        for path in files:
            print(path)
    return 0


def request_of(app: App, options: argparse.Namespace) -> GenerateRequest:
    """The frozen request that the options mean. Raises SfumatoError for what cannot be."""
    file = app.library.find_path("checkpoints", options.model)
    recognised = app.recognise(file)
    usual = defaults_for(file, recognised)
    image = adopt(app, options.image) if options.image else None
    width, height = _size(app, options, usual, image)
    strength = options.strength if options.strength is not None else 1.0 if options.outpaint else 0.75
    request = GenerateRequest(
        prompt=options.prompt,
        negative=options.negative,
        model=file.name,
        vae=app.library.find_path("vae", options.vae).name if options.vae else "",
        width=width,
        height=height,
        steps=usual.steps if options.steps is None else options.steps,
        cfg=usual.cfg if options.cfg is None else options.cfg,
        sampler=_known("sampler", options.sampler or usual.sampler, app.catalogue.resolve("samplers")),
        schedule=_known("schedule", options.schedule or usual.schedule, app.catalogue.resolve("schedules")),
        seed=secrets.randbelow(2**32) if options.seed is None else options.seed,
        batch=options.batch,
        clip_skip=options.clip_skip,
        image=image,
        strength=strength,
        mask=_mask(app, options, image),
        outpaint=Borders(*options.outpaint) if options.outpaint else Borders(),
        loras=tuple(LoraUse(app.library.find_path("loras", name).name, 1.0 if weight is None else weight) for name, weight in options.lora),
        controls=tuple(_control(app, *each) for each in options.control),
        upscale=UpscaleUse(app.library.find_path("upscale_models", options.upscale[0]).name, options.upscale[1] or 0)
        if options.upscale
        else None,
        inpainting_model=int(recognised.details.get("in_channels") or 4) > 4,
    )
    return request.checked()


def _generated(app: App, request: GenerateRequest) -> tuple[Any, dict[str, Any], str]:
    """(pictures float32 [B,H,W,3] NumPy, what they carry, the node that saves them)."""
    graph = app.graph_for(request)
    link = picture_of(graph)
    hidden = hidden_of(app, graph, request)
    bar = Bar()
    with cancel_on_interrupt() as cancel:
        try:
            result = app.backend().run(graph, [link.node], hidden=hidden, cancel=cancel, on_event=bar.hear)
        finally:
            bar.clear()
    hidden["record"]["rung"] = app.rung()
    target = next(key for key, node in graph.nodes.items() if link in node.inputs.values() and node.type == "SaveImage")
    return result.value(link.node, link.slot).numpy(), hidden, target


def _written(app: App, output: Path | None, images: Any, hidden: dict[str, Any], target: str) -> list[Path]:
    if output is None:
        output = _numbered(app.folders.output)
    paths = [output] if len(images) == 1 else [output.with_stem(f"{output.stem}-{number + 1}") for number in range(len(images))]
    for index, (path, pixels) in enumerate(zip(paths, images, strict=True)):
        written = write_image(path, pixels, metadata_of(hidden, target, index), make_parents=output.is_relative_to(app.folders.output))
        for warning in written.warnings:
            note(f"{path}: {warning}")
    return paths


def _numbered(folder: Path) -> Path:
    root, stem = place_for(folder, "sfumato")
    return root / f"{stem}_{next_number(root, stem):05}_.png"


def _check_place(output: Path) -> None:
    """Better to hear of a missing folder before the work than after it."""
    if not output.absolute().parent.is_dir():
        raise UsageError("there is no such folder", str(output.absolute().parent), "Make it first, or write somewhere else.")
    if output.is_dir():
        raise UsageError("this is a folder, not a file name", str(output), "Give a file name that ends in .png, .webp or .jpg.")


def _size(app: App, options: argparse.Namespace, usual: Defaults, image: str | None) -> tuple[int, int]:
    """The size of the result before upscaling: as asked, or the picture's own (in multiples of 8), or the model's usual one."""
    if image is None:
        return options.width or usual.width, options.height or usual.height
    left, top, right, bottom = options.outpaint or (0, 0, 0, 0)
    own = size_of(app, image)
    width, height = (max(16, round(side / 8) * 8) for side in own)
    asked_width, asked_height = options.width or width, options.height or height
    if (width, height) != own and not (options.width or options.height):
        note(f"{options.image} is {own[0]}x{own[1]}; it is worked on as {width}x{height}, because sizes are multiples of 8")
    return asked_width + left + right, asked_height + top + bottom


def _mask(app: App, options: argparse.Namespace, image: str | None) -> str | None:
    if options.mask is None:
        return None
    if image is None:
        raise UsageError("--mask needs --image", "mask", "Give the picture that the mask lies on.")
    mask = adopt(app, options.mask)
    have, want = size_of(app, mask), size_of(app, image)
    if have != want:
        raise BadValueError(
            f"the mask is {have[0]}x{have[1]}, the picture {want[0]}x{want[1]}", options.mask, "Make the mask as large as the picture."
        )
    return mask


def _control(app: App, kind: str, image: str, strength: float | None) -> ControlUse:
    known = list(app.catalogue.resolve("preprocessors"))
    if kind not in known:
        raise BadValueError(f"unknown control {kind!r}", "control", f"There are: {', '.join(known) or 'none'}.")
    model = app.library.find_path("controlnet", kind).name
    return ControlUse(kind, adopt(app, image), 1.0 if strength is None else strength, model=model)


def _known(what: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 3)
    remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names)}."
    raise BadValueError(f"unknown {what} {name!r}", what, remedy)
