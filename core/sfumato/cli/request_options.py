"""From the options of a command to the frozen request: every name is looked up and every value checked before anything runs."""

from __future__ import annotations

import argparse
import difflib
import secrets
from collections.abc import Sequence

from sfumato.app import App
from sfumato.cli import arguments
from sfumato.cli.output import note
from sfumato.cli.pictures import adopt, size_of
from sfumato.errors import BadValueError, ModelFileError, UsageError
from sfumato.models import ModelFile
from sfumato.models.defaults import Defaults, defaults_for
from sfumato.models.recognised import Recognised
from sfumato.request import Borders, ControlUse, GenerateRequest, LoraUse, UpscaleUse
from sfumato.sockets import MAX_SIZE

_MOST_REPEATS = 64
"""RepeatLatentBatch's own limit."""
_LORA_WEIGHT, _CONTROL_STRENGTH, _FACTOR = (-100.0, 100.0), (0.0, 10.0), (0.1, 16.0)
_PREPARED = "none"
_FITTING = {
    "checkpoints": ("checkpoint",),
    "vae": ("vae", "checkpoint"),
    "loras": ("lora",),
    "controlnet": ("controlnet",),
    "upscale_models": ("upscaler",),
}


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """All that says what a picture shows, and how it is made."""
    parser.add_argument("prompt", metavar="PROMPT", help="what the picture shows; (word:1.3) weighs, [a:b:0.5] changes half-way")
    parser.add_argument("--negative", default="", metavar="TEXT", help="what it does not show")
    parser.add_argument("--model", default="embedded", metavar="M", help="a checkpoint by name or path")
    parser.add_argument("--vae", default="", metavar="V", help="an autoencoder instead of the model's own, by name or path")
    parser.add_argument("--width", type=int, metavar="W", help="pixels, a multiple of 8")
    parser.add_argument("--height", type=int, metavar="H", help="pixels, a multiple of 8")
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    parser.add_argument("--cfg", type=float, metavar="C", help="how strictly the prompt is followed")
    parser.add_argument("--sampler", metavar="S", help="such as euler, dpmpp_2m, uni_pc")
    parser.add_argument("--schedule", metavar="K", help="such as normal, karras, beta")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same picture; without it, a random one")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="how many pictures")
    parser.add_argument("--image", metavar="IN", help="a picture to start from")
    parser.add_argument("--strength", type=float, metavar="X", help="how much of IN may change, 0 to 1 (0.75; with --outpaint 1)")
    parser.add_argument("--mask", metavar="MASK", help="a picture that is white where IN may change")
    parser.add_argument("--outpaint", type=arguments.borders, metavar="L,T,R,B", help="pixels to paint around IN")
    parser.add_argument(
        "--lora", action="append", default=[], type=arguments.with_number, metavar="FILE[:WEIGHT]", help="by name or path; again for more"
    )
    parser.add_argument(
        "--control",
        action="append",
        default=[],
        type=arguments.control,
        metavar="KIND[=MODEL]:IMAGE[:STRENGTH]",
        help="follow a picture: KIND is a preprocessor, or none if IMAGE is a control picture already; "
        "MODEL is the ControlNet, by name or path (the one called KIND); again for more",
    )
    parser.add_argument("--upscale", type=arguments.with_number, metavar="M[:FACTOR]", help="enlarge with an upscaler, by name or path")
    parser.add_argument("--clip-skip", type=int, default=1, metavar="N", help="1 is the text encoder's last layer, 2 the one before")
    arguments.add_engine_options(parser)


def request_of(app: App, options: argparse.Namespace) -> GenerateRequest:
    """The frozen request that the options mean. Raises SfumatoError for what cannot be."""
    _check_use(options)
    file, recognised = _model(app, "checkpoints", options.model)
    usual = defaults_for(file, recognised)
    image = adopt(app, options.image) if options.image else None
    width, height = _size(app, options, usual, image)
    strength = options.strength if options.strength is not None else 1.0 if options.outpaint else 0.75
    return GenerateRequest(
        prompt=_text("prompt", options.prompt),
        negative=_text("negative", options.negative),
        model=file.name,
        vae=_model(app, "vae", options.vae)[0].name if options.vae else "",
        width=width,
        height=height,
        steps=usual.steps if options.steps is None else options.steps,
        cfg=usual.cfg if options.cfg is None else options.cfg,
        sampler=known("sampler", options.sampler or usual.sampler, app.catalogue.resolve("samplers")),
        schedule=known("schedule", options.schedule or usual.schedule, app.catalogue.resolve("schedules")),
        seed=secrets.randbelow(2**32) if options.seed is None else options.seed,
        batch=options.batch,
        clip_skip=options.clip_skip,
        image=image,
        strength=strength,
        mask=_mask(app, options, image),
        outpaint=Borders(*options.outpaint) if options.outpaint else Borders(),
        loras=tuple(_lora(app, *each) for each in options.lora),
        controls=tuple(_control(app, each) for each in options.control),
        upscale=_upscale(app, options.upscale, max(width, height)) if options.upscale else None,
        inpainting_model=int(recognised.details.get("in_channels") or 4) > 4,
    ).checked()


def known(what: str, name: str, names: Sequence[str]) -> str:
    """`name`, if it is one of `names`. Raises BadValueError with those that are near."""
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 3)
    remedy = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names) or 'none'}."
    raise BadValueError(f"unknown {what} {name!r}", what, remedy)


def _check_use(options: argparse.Namespace) -> None:
    """Options that mean nothing without a picture to start from."""
    if options.image is None:
        for name in ("mask", "strength", "outpaint"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} needs --image", name, "Give the picture that it is about.")
    elif options.batch > _MOST_REPEATS:
        raise BadValueError(f"{options.batch} pictures from one are too many", "batch", f"Use at most {_MOST_REPEATS} at a time.")


def _text(what: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(f"character {error.start + 1} is no valid Unicode", what, "Write the text in UTF-8.") from error
    return text


def _within(what: str, value: float, limits: tuple[float, float]) -> float:
    if not limits[0] <= value <= limits[1]:
        raise BadValueError(f"{value:g} is not between {limits[0]:g} and {limits[1]:g}", what, "Use a value in that range.")
    return value


def _model(app: App, kind: str, text: str) -> tuple[ModelFile, Recognised]:
    """The model of a kind that the user means, and what it is. Raises ModelFileError for a file of quite another kind."""
    file = app.library.find_path(kind, text)
    recognised = app.recognise(file)
    if recognised.kind not in (*_FITTING[kind], "unknown"):
        what = f"this is no {_FITTING[kind][0]}: {recognised.reason}"
        raise ModelFileError(what, str(file.path), f"`sfumato models list` shows the {kind} there are.")
    return file, recognised


def _lora(app: App, text: str, weight: float | None) -> LoraUse:
    return LoraUse(_model(app, "loras", text)[0].name, 1.0 if weight is None else _within("lora", weight, _LORA_WEIGHT))


def _control(app: App, asked: arguments.Control) -> ControlUse:
    is_prepared = asked.kind == _PREPARED
    if is_prepared and not asked.model:
        raise UsageError("a control picture needs the name of a ControlNet", "control", "Write none=MODEL:IMAGE.")
    kind = asked.kind if is_prepared else known("control", asked.kind, app.catalogue.resolve("preprocessors"))
    model = _model(app, "controlnet", asked.model or kind)[0].name
    strength = 1.0 if asked.strength is None else _within("control", asked.strength, _CONTROL_STRENGTH)
    return ControlUse(kind, adopt(app, asked.image), strength, model=model, prepared=is_prepared)


def _upscale(app: App, asked: tuple[str, float | None], side: int) -> UpscaleUse:
    text, factor = asked
    if factor is not None and side * _within("upscale", factor, _FACTOR) > MAX_SIZE:
        raise BadValueError(f"{side} pixels times {factor:g} are more than {MAX_SIZE}", "upscale", "Use a smaller factor.")
    return UpscaleUse(_model(app, "upscale_models", text)[0].name, factor or 0.0)


def _size(app: App, options: argparse.Namespace, usual: Defaults, image: str | None) -> tuple[int, int]:
    """The size of the result before upscaling: as asked, or the picture's own (in multiples of 8), or the model's usual one."""
    asked = (options.width, options.height)
    if image is None:
        width, height = (side if wanted is None else wanted for wanted, side in zip(asked, (usual.width, usual.height), strict=True))
        return width, height
    left, top, right, bottom = options.outpaint or (0, 0, 0, 0)
    own = size_of(app, image)
    rounded = [max(16, round(side / 8) * 8) for side in own]
    if tuple(rounded) != own and asked == (None, None):
        note(f"{options.image} is {own[0]}x{own[1]}; it is worked on as {rounded[0]}x{rounded[1]}, because sizes are multiples of 8")
    width, height = (side if wanted is None else wanted for wanted, side in zip(asked, rounded, strict=True))
    return width + left + right, height + top + bottom


def _mask(app: App, options: argparse.Namespace, image: str | None) -> str | None:
    if options.mask is None or image is None:
        return None
    mask = adopt(app, options.mask)
    have, want = size_of(app, mask), size_of(app, image)
    if have != want:
        what = f"the mask is {have[0]}x{have[1]}, the picture {want[0]}x{want[1]}"
        raise BadValueError(what, options.mask, "Make the mask as large as the picture.")
    return mask
