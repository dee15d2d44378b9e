"""What the embedded model's pictures show, judged by the checker of its little world: held-out captions through the real engine,
and what its companions (control nets, style LoRAs, the learnt word, the upscaler) add.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from sfumato.bench.figures import Figure, result
from sfumato.bench.kernel import bench_app
from sfumato.graph import GraphBuilder
from sfumato.lazy import lazy_module
from sfumato.models.defaults import Defaults, defaults_for
from sfumato.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sfumato.app import App
    from sfumato.engine import codec, sampling, text_encoding
    from sfumato.engine.handles import ClipHandle, ModelHandle, VaeHandle
    from sfumato_resources.world.checker import Checker
else:
    np = lazy_module("numpy")
    torch = lazy_module("torch")
    codec = lazy_module("sfumato.engine.codec")
    sampling = lazy_module("sfumato.engine.sampling")
    text_encoding = lazy_module("sfumato.engine.text_encoding")

WORDS = "what the embedded model's pictures show, as the programmatic checker sees them"
BATCH, SMALL = 8, 40
TARGETS = {"kind": 0.90, "colour": 0.95, "ground": 0.97, "position": 0.90}


def run(options: Any) -> dict[str, Any]:
    """Captions first, then every companion that is there."""
    from sfumato_resources import embedded_files
    from sfumato_resources.world.benchmark import held_out, score
    from sfumato_resources.world.checker import Checker

    with bench_app() as app:
        painter, checker = Painter.of(app), Checker()
        cases = held_out(options.count)
        scored = score(painter.paint([words for _, words in cases]), [scene for scene, _ in cases], checker)
        figures = [Figure(what, getattr(scored.overall, what), "", target, at_least=True) for what, target in TARGETS.items()]
        figures += [Figure("everything in the picture", scored.overall.everything)]
        figures += [Figure(f"{what}, in true drawings", getattr(scored.ceiling, what)) for what in (*TARGETS, "everything")]
        small = min(SMALL, options.count)
        for name in embedded_files("loras"):
            figures += _style(app, painter, name.removesuffix(".safetensors"), small)
        for kind in embedded_files("controlnet"):
            figures += _control(app, painter, kind, small)
        for name in embedded_files("embeddings"):
            figures += _word(painter, name.removesuffix(".safetensors"), small, checker)
        for name in embedded_files("upscale_models"):
            figures += _upscaler(app, f"embedded/{name}", small)
        words = f"{options.count} held-out captions, {painter.usual}; {small} pictures for each companion"
    return result(figures, [words])


@dataclass(frozen=True)
class Painter:
    """The engine with its usual settings: many prompts at once, each with its own noise."""

    services: Any
    model: ModelHandle
    clip: ClipHandle
    vae: VaeHandle
    usual: Defaults

    @classmethod
    def of(cls, app: App) -> Painter:
        """With the embedded model."""
        services, file = app.services(), app.library.find("checkpoints", "embedded")
        model, clip, vae = services.family_of(file).load_checkpoint(file, services, Progress.silent())
        return cls(services, model, clip, vae, defaults_for(file, app.recognise(file)))

    def paint(self, prompts: Sequence[str], control: Callable[[slice], Any] | None = None) -> list[Image.Image]:
        """One picture for each prompt; the noise of picture n is the same whatever its prompt."""
        pictures = []
        for start in range(0, len(prompts), BATCH):
            part = slice(start, start + BATCH)
            pictures += self._paint(prompts[part], start, control(part) if control else None)
        return pictures

    def _paint(self, prompts: Sequence[str], start: int, control: Any) -> list[Image.Image]:
        more = {} if control is None else {"control": control}
        positive = [[torch.cat([self._text(words) for words in prompts]), more]]
        negative = [[self._text(""), more]]
        levels = self.services.schedule(self.usual.schedule)(self.model.sampling, self.usual.steps)
        down = self.vae.codec.downscale
        blank = torch.zeros(len(prompts), self.model.latent.channels, self.usual.height // down, self.usual.width // down)
        latent = {"samples": blank, "batch_index": list(range(start, start + len(prompts)))}
        guider = sampling.GuiderChoice(self.model, positive, negative, self.usual.cfg)
        sampler, noise = self.services.sampler(self.usual.sampler), sampling.RandomNoise(0)
        done = sampling.sample(self.services, guider, noise, sampler, levels, latent, Progress.silent())
        return [_picture(one) for one in codec.decode(self.services, self.vae, done.samples, Progress.silent())]

    def _text(self, words: str) -> torch.Tensor:
        encoded: torch.Tensor = text_encoding.encode_text(self.services, self.clip, words, "sfumato", Progress.silent())[0][0]
        return encoded


def _picture(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels.numpy() * 255).round().astype(np.uint8))


def _worked_out(app: App, node: str, slot: int = 0, **inputs: Any) -> Any:
    """What one loader node gives: companions are found and opened as in any workflow."""
    build = GraphBuilder()
    placed = build.node(node, **inputs)
    return app.backend().run(build.graph(), [placed.id]).value(placed.id, slot)


def _style(app: App, painter: Painter, style: str, count: int) -> list[Figure]:
    """The share of pictures in the LoRA's style, with it and without, from the same prompts and noise."""
    from sfumato_resources.world.captions import caption
    from sfumato_resources.world.questions import style_of
    from sfumato_resources.world.scenes import sample_scene

    rng = random.Random(f"lora {style}")
    scenes = [sample_scene(rng, (style,), pair_share=0.3) for _ in range(count)]
    prompts = [caption(scene, rng, full=True) for scene in scenes]
    build = GraphBuilder()
    loaded = build.node("CheckpointLoaderSimple", ckpt_name="embedded")
    both = {"model": loaded.out(0), "clip": loaded.out(1), "strength_model": 1.0, "strength_clip": 1.0}
    placed = build.node("LoraLoader", lora_name=f"embedded/{style}.safetensors", **both)
    found = app.backend().run(build.graph(), [placed.id])
    with_lora = replace(painter, model=found.value(placed.id, 0), clip=found.value(placed.id, 1))

    def share(pictures: Sequence[Image.Image]) -> float:
        return sum(style_of(picture, scene) == style for picture, scene in zip(pictures, scenes, strict=True)) / count

    return [
        Figure(f"LoRA {style}: in its style", share(with_lora.paint(prompts))),
        Figure(f"LoRA {style}: in its style without it", share(painter.paint(prompts))),
    ]


def _control(app: App, painter: Painter, kind: str, count: int) -> list[Figure]:
    """How well edges agree with those of a drawing that only the control picture tells of, with the control net and without."""
    from sfumato.engine.handles import Control
    from sfumato_resources.world.depth import depth_map
    from sfumato_resources.world.drawing import draw_array
    from sfumato_resources.world.edges import canny
    from sfumato_resources.world.questions import edge_agreement
    from sfumato_resources.world.scenes import sample_scene

    rng, side = random.Random(f"control {kind}"), painter.usual.width
    scenes = [sample_scene(rng, ("flat",), pair_share=0.0) for _ in range(count)]
    prompts = [f"a {scene.things[0].colour} {scene.things[0].kind}, {scene.ground} background" for scene in scenes]
    drawings = [draw_array(scene, 10**7 + number, side) for number, scene in enumerate(scenes)]
    edges = [canny(drawing) for drawing in drawings]
    makers: Mapping[str, Callable[[], list[Any]]] = {
        "canny": lambda: [edge.astype(np.float32) for edge in edges],
        "depth": lambda: [depth_map(scene, side).astype(np.float32) / 255 for scene in scenes],
    }
    if kind not in makers:
        return []
    handle = _worked_out(app, "ControlNetLoader", control_net_name=f"embedded/{kind}")
    hints = torch.from_numpy(np.stack(makers[kind]()))[:, None].repeat(1, 3, 1, 1)

    def agreement(pictures: Sequence[Image.Image]) -> float:
        return sum(edge_agreement(picture, wanted) for picture, wanted in zip(pictures, edges, strict=True)) / count

    return [
        Figure(f"control {kind}: edges agree", agreement(painter.paint(prompts, lambda part: Control(handle, hints[part])))),
        Figure(f"control {kind}: edges agree without it", agreement(painter.paint(prompts))),
    ]


def _word(painter: Painter, name: str, count: int, checker: Checker) -> list[Figure]:
    """How many pictures of the learnt word, at places that the rest of the prompt names, show what it stands for."""
    from sfumato_resources.world.questions import find_object, ground_of

    rng = random.Random("embedding report")
    places = [rng.choice(("in the center", "on the left", "on the right", "at the top")) for _ in range(count)]
    pictures = painter.paint([f"embedding:{name} {place}" for place in places])
    stars = sum(find_object(picture, "star", "orange", checker=checker) is not None for picture in pictures)
    nights = sum(ground_of(picture, checker) == "night" for picture in pictures)
    return [Figure(f"word {name}: an orange star", stars / count), Figure(f"word {name}: at night", nights / count)]


def _upscaler(app: App, name: str, count: int) -> list[Figure]:
    """Mean PSNR against drawings of twice the size; and that of bicubic interpolation."""
    from sfumato_resources.world.drawing import draw
    from sfumato_resources.world.questions import psnr
    from sfumato_resources.world.scenes import sample_scene

    upscaler, services = _worked_out(app, "UpscaleModelLoader", model_name=name), app.services()
    rng, ours, bicubic = random.Random("upscaler report"), 0.0, 0.0
    for number in range(count):
        side = 128 * upscaler.scale
        truth = draw(sample_scene(rng), 10**8 + number, side=side)
        small = truth.resize((128, 128), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.asarray(small, np.float32).copy() / 255).permute(2, 0, 1)[None]
        with services.residency.use(upscaler.weights) as (module,), torch.inference_mode():
            large = upscaler(module, pixels)[0].permute(1, 2, 0).clamp(0, 1)
        ours += psnr(_picture(large), truth) / count
        bicubic += psnr(small.resize((side, side), Image.Resampling.BICUBIC), truth) / count
    return [Figure("upscaler: PSNR", ours, "dB"), Figure("upscaler: PSNR of bicubic interpolation", bicubic, "dB")]
