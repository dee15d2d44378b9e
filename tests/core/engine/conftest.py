"""One engine with the embedded model in short words, and diffusers' own pipeline beside it as the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from sfumato.engine import codec, sampling, text_encoding
from sfumato.engine.handles import ClipHandle, ModelHandle, VaeHandle
from sfumato.engine.sampling import GuiderChoice, NoiseSource, NoNoise, RandomNoise, Sampled
from sfumato.engine.schedules import sigmas
from sfumato.engine.services import Services
from sfumato.progress import Progress

PROMPT = "a red circle on a blue background"
NEGATIVE = "blurry"


class GivenNoise:
    """Noise that a test has made."""

    def __init__(self, noise: Tensor, seed: int = 0) -> None:
        self.noise, self.seed = noise, seed

    def generate(self, latent: Mapping[str, Any]) -> Tensor:
        return self.noise


class Studio:
    """The embedded model ready to paint: every method has defaults that a test need not speak of."""

    def __init__(self, services: Services, model: ModelHandle, clip: ClipHandle, vae: VaeHandle) -> None:
        self.services, self.model, self.clip, self.vae = services, model, clip, vae
        self.text = cache(self._text)

    def _text(self, words: str) -> list[Any]:
        return text_encoding.encode_text(self.services, self.clip, words, "sfumato", Progress.silent())

    def sigmas(self, steps: int = 6, schedule: str = "simple") -> Tensor:
        return sigmas(schedule, self.model.sampling, steps)

    def blank(self, batch: int = 1, side: int = 16) -> dict[str, Any]:
        return {"samples": torch.zeros(batch, self.model.latent.channels, side, side)}

    def sample(
        self,
        latent: Mapping[str, Any] | None = None,
        *,
        model: ModelHandle | None = None,
        sampler: str = "euler",
        levels: Tensor | None = None,
        noise: NoiseSource | None = None,
        seed: int = 5,
        cfg: float = 6.0,
        positive: list[Any] | None = None,
        negative: list[Any] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Sampled:
        guider = GuiderChoice(
            model or self.model,
            self.text(PROMPT) if positive is None else positive,
            self.text(NEGATIVE) if negative is None else negative,
            cfg,
        )
        return sampling.sample(
            self.services,
            guider,
            noise or RandomNoise(seed),
            replace(self.services.sampler(sampler), options=options),
            self.sigmas() if levels is None else levels,
            self.blank() if latent is None else latent,
            progress or Progress.silent(),
        )

    def without_noise(self) -> NoNoise:
        return NoNoise()

    def with_noise(self, noise: Tensor, seed: int = 0) -> GivenNoise:
        return GivenNoise(noise, seed)

    def decode(self, samples: Tensor, progress: Progress | None = None) -> Tensor:
        return codec.decode(self.services, self.vae, samples, progress or Progress.silent())

    def encode(self, pixels: Tensor, progress: Progress | None = None) -> Tensor:
        return codec.encode(self.services, self.vae, pixels, progress or Progress.silent())

    def module_of(self, handle: Any) -> nn.Module:
        """The network behind a handle, loaded."""
        with self.services.residency.use(handle.weights) as (module,):
            network: nn.Module = module
            return network


@pytest.fixture(scope="session")
def studio(services: Any, embedded: tuple[Any, Any, Any]) -> Studio:
    """The embedded model, ready."""
    return Studio(services, *embedded)


@pytest.fixture(scope="session")
def make_studio() -> Callable[..., Studio]:
    """Makes a studio of other handles or another engine."""
    return Studio


@pytest.fixture(scope="session")
def pipeline(embedded_folder: Path) -> Any:
    """diffusers' own pipeline with the embedded model: the oracle."""
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(str(embedded_folder), dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(autouse=True)
def _nothing_stays_in_use(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves weights of the shared engine pinned, or a hook on a network, fails."""
    yield
    if "services" not in request.fixturenames:
        return
    for entry in request.getfixturevalue("services").residency._entries.values():
        assert entry.pins == 0, entry.key
        for module in entry.module.modules() if entry.module is not None else ():
            assert not module._forward_pre_hooks, entry.key


class Seen:
    """Questions about pictures, answered by the judge of the model's little world."""

    def __init__(self, side: int) -> None:
        from sfumato_resources.world.checker import Checker

        self.side, self.checker = side, Checker()
        """`side`: of the embedded model's own pictures, in pixels."""

    def pictures(self, image: Tensor) -> list[PillowImage.Image]:
        """An IMAGE as pictures."""
        return [PillowImage.fromarray((one.numpy() * 255).round().astype("uint8")) for one in image]

    def find(self, picture: PillowImage.Image, kind: str, colour: str, box: tuple[float, ...] = (0, 0, 1, 1)) -> Any:
        """The thing of a kind and colour whose middle lies in a box, or None."""
        from sfumato_resources.world.questions import find_object

        return find_object(picture, kind, colour, box, self.checker)  # type: ignore[arg-type]

    def ground(self, picture: PillowImage.Image) -> str:
        return self.checker.ground_of(picture)


@pytest.fixture(scope="session")
def seen(embedded_folder: Path) -> Seen:
    """The judge of pictures."""
    return Seen(8 * int(json.loads((embedded_folder / "unet" / "config.json").read_text())["sample_size"]))
