"""A request: all that one generation needs, frozen. Nothing else is read once it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sfumato.errors import BadValueError
from sfumato.sockets import MAX_SIZE


@dataclass(frozen=True)
class LoraUse:
    """A LoRA by name, and how strongly it counts for the network and for the text."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class ControlUse:
    """A control picture: what kind it is, or is to be made into; how strongly and from when to when it counts."""

    kind: str
    image: str
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    model: str = ""
    """The ControlNet's name; empty: one called like the kind."""
    prepared: bool = False
    """The picture is a control picture already."""


@dataclass(frozen=True)
class UpscaleUse:
    """An upscaler by name; `factor` 0 is the model's own."""

    model: str
    factor: float = 0.0


@dataclass(frozen=True)
class Borders:
    """Room to paint around a picture, in pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))


@dataclass(frozen=True)
class GenerateRequest:
    """What to make. Pictures (`image`, `mask`, those of controls) are names that the run's folders know."""

    prompt: str
    negative: str = ""
    model: str = "embedded"
    vae: str = ""
    width: int = 512
    height: int = 512
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    seed: int = 0
    batch: int = 1
    clip_skip: int = 1
    image: str | None = None
    strength: float = 0.75
    mask: str | None = None
    outpaint: Borders = Borders()
    loras: tuple[LoraUse, ...] = ()
    controls: tuple[ControlUse, ...] = ()
    upscale: UpscaleUse | None = None
    inpainting_model: bool = False
    """The model takes a mask and a masked picture itself."""

    def checked(self) -> GenerateRequest:
        """This request, if it can be made into a graph. Raises BadValueError naming the first value that is wrong."""
        for what, side in (("width", self.width), ("height", self.height)):
            if side % 8 or not 16 <= side <= MAX_SIZE:
                near = min(max(16, round(side / 8) * 8), MAX_SIZE)
                raise BadValueError(f"{side} is no multiple of 8 between 16 and {MAX_SIZE}", what, f"Use {near}.")
        limits: tuple[tuple[str, float, float, float], ...] = (
            ("steps", self.steps, 1, 10000),
            ("batch", self.batch, 1, 4096),
            ("cfg", self.cfg, 0, 100),
            ("strength", self.strength, 0, 1),
            ("seed", self.seed, 0, 2**64 - 1),
            ("clip_skip", self.clip_skip, 0, 24),
        )
        for what, value, low, high in limits:
            if not low <= value <= high:
                raise BadValueError(f"{value} is not between {low} and {high}", what, "Use a value in that range.")
        if self.mask is not None and self.image is None:
            raise BadValueError("a mask needs a picture to lie on", "mask", "Give the picture as well.")
        if self.outpaint and self.image is None:
            raise BadValueError("there is no picture to paint around", "outpaint", "Give the picture as well.")
        border = self.outpaint
        if any(side % 8 or side < 0 for side in asdict(border).values()):
            raise BadValueError("borders are multiples of 8 pixels, not negative", "outpaint", "Round them to 8.")
        if self.width - border.left - border.right < 8 or self.height - border.top - border.bottom < 8:
            raise BadValueError("the borders leave no room for the picture", "outpaint", "Width and height are those of the result.")
        factor = self.upscale.factor if self.upscale else 0.0
        if not 0 <= factor * max(self.width, self.height) <= MAX_SIZE or 0 < factor * min(self.width, self.height) < 1:
            raise BadValueError(f"enlarged {factor} times, a side is not between 1 and {MAX_SIZE}", "upscale", "Use another factor.")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GenerateRequest:
        """The request that `to_json` wrote; keys that are not known are passed over. Raises BadValueError for wrong values."""
        known = {field.name for field in fields(cls)}
        try:
            request = cls(**{key: value for key, value in data.items() if key in known})
            return replace(
                request,
                outpaint=Borders(**data.get("outpaint") or {}),
                loras=tuple(LoraUse(**each) for each in data.get("loras") or ()),
                controls=tuple(ControlUse(**each) for each in data.get("controls") or ()),
                upscale=UpscaleUse(**data["upscale"]) if data.get("upscale") else None,
            ).checked()
        except (TypeError, AttributeError) as error:
            raise BadValueError(f"this is no request: {error}", "request", "It was changed, or comes from a newer version.") from error
