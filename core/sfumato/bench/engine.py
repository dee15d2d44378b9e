"""The engine beside diffusers: a step beside the bare network and scheduler, a picture beside the whole pipeline.

Both use the same network, dtype and numbers (tests show that they give the same bits) and take turns. Timed is the processor time
of the one thread that works, cut after every step; of each piece the least of all rounds counts, because other programs on the
machine only ever add.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sfumato.bench.figures import Figure, result
from sfumato.bench.kernel import bench_app
from sfumato.lazy import lazy_module
from sfumato.progress import Progress
from sfumato.recipes import graph_for, picture_of
from sfumato.request import GenerateRequest

if TYPE_CHECKING:
    import torch

    from sfumato.app import App
    from sfumato.engine import sampling
else:
    torch = lazy_module("torch")
    sampling = lazy_module("sfumato.engine.sampling")

WORDS = "our overhead over diffusers, embedded model, float32, one thread"
STEPS, CFG, PROMPT, NEGATIVE = 20, 6.0, "a red circle on a blue background", "blurry"
ROUNDS = 12

Marks = list[float]
"""Processor times of one round: at its begin, after each piece of the work, at its end."""


def run(options: Any) -> dict[str, Any]:
    """Steps, whole pictures, and what a second run saves."""
    rounds = getattr(options, "rounds", None) or ROUNDS
    with bench_app() as app:
        step_of = _Steps(app)
        bare, ours = (seconds / STEPS for seconds in _in_turns(step_of.bare, step_of.ours, rounds))
        picture = _Pictures(app)
        whole_theirs, whole_ours = _in_turns(picture.theirs, picture.ours, rounds)
        texts, loads = _second_run(app)
    figures = [
        Figure("one step, bare UNet and scheduler", bare * 1000, "ms"),
        Figure("one step, engine", ours * 1000, "ms"),
        Figure("step: engine / bare", ours / bare, "", 1.02),
        Figure("text to picture, StableDiffusionPipeline", whole_theirs * 1000, "ms"),
        Figure("text to picture, our nodes", whole_ours * 1000, "ms"),
        Figure("text to picture: ours / pipeline", whole_ours / whole_theirs, "", 1.0),
        Figure("second run with another seed: texts encoded", texts, "", 0),
        Figure("second run with another seed: models loaded", loads, "", 0),
    ]
    return result(figures, [f"{rounds} rounds of {STEPS} steps, turn by turn; of each piece the least processor time"])


def _in_turns(first: Callable[[], Marks], second: Callable[[], Marks], rounds: int) -> tuple[float, float]:
    """The seconds of each after one round to warm up, taking the least of every piece."""
    found = [(first(), second()) for _ in range(rounds + 1)][1:]
    return _least([a for a, _ in found]), _least([b for _, b in found])


def _least(rounds: list[Marks]) -> float:
    pieces = [[after - before for before, after in pairwise(marks)] for marks in rounds]
    return sum((min(column) for column in zip(*pieces, strict=True)), 0.0)


class _Steps:
    """Twenty Euler steps with guidance, ours and bare, from the same noise."""

    def __init__(self, app: App) -> None:
        from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

        import sfumato_resources
        from sfumato.engine import text_encoding
        from sfumato.engine.noise import initial_noise

        self.services = app.services()
        file = app.library.find("checkpoints", "embedded")
        self.model, clip, _ = self.services.family_of(file).load_checkpoint(file, self.services, Progress.silent())
        self.positive, self.negative = (
            text_encoding.encode_text(self.services, clip, words, "sfumato", Progress.silent()) for words in (PROMPT, NEGATIVE)
        )
        self.unet: Any = UNet2DConditionModel.from_pretrained(sfumato_resources.embedded_model() / "unet", dtype=torch.float32)
        side = int(self.unet.config.sample_size)
        self.levels = self.services.schedule("simple")(self.model.sampling, STEPS)
        self.noise = initial_noise((1, self.model.latent.channels, side, side), 1)
        prediction = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}[self.model.sampling.prediction]
        table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        self.scheduler = EulerDiscreteScheduler(**table, prediction_type=prediction)

    def bare(self) -> Marks:
        """The network and diffusers' scheduler alone, as its pipeline calls them."""
        self.scheduler.set_timesteps(sigmas=self.levels.tolist())
        texts = torch.cat([self.negative[0][0], self.positive[0][0]])
        x = self.noise * self.scheduler.init_noise_sigma
        with torch.no_grad():
            marks = [time.thread_time()]
            for moment in self.scheduler.timesteps:
                both = self.scheduler.scale_model_input(torch.cat([x, x]), moment)
                against, wanted = self.unet(both, moment, encoder_hidden_states=texts, return_dict=False)[0].chunk(2)
                x = self.scheduler.step(against + CFG * (wanted - against), moment, x, return_dict=False)[0]
                marks.append(time.thread_time())
        return marks

    def ours(self) -> Marks:
        """The engine, with all that it does around the network."""
        from sfumato.engine.loop import Extension, LoopState

        marks: Marks = []

        class Clock(Extension):
            def before_loop(self, state: LoopState) -> None:
                marks.append(time.thread_time())

            def after_step(self, state: LoopState) -> None:
                marks.append(time.thread_time())

        guider = sampling.GuiderChoice(replace(self.model, extensions=(Clock,)), self.positive, self.negative, CFG)
        latent, heard = {"samples": torch.zeros_like(self.noise)}, Progress(lambda step: None)
        sampling.sample(self.services, guider, sampling.RandomNoise(1), self.services.sampler("euler"), self.levels, latent, heard)
        return marks


class _Pictures:
    """Text to picture: new words each time, everything loaded before."""

    def __init__(self, app: App) -> None:
        from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

        import sfumato_resources

        for library in ("diffusers", "transformers"):
            importlib.import_module(f"{library}.utils.logging").disable_progress_bar()
        folder = str(sfumato_resources.embedded_model())
        self.pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.scheduler = EulerDiscreteScheduler.from_config(self.pipeline.scheduler.config, use_karras_sigmas=True)
        self.side = int(self.pipeline.unet.config.sample_size) * 8
        self.backend, self.turn = app.backend(), 0

    def theirs(self) -> Marks:
        """The whole pipeline."""
        marks = [time.thread_time()]

        def after_step(pipe: Any, step: int, moment: Any, given: dict[str, Any]) -> dict[str, Any]:
            marks.append(time.thread_time())
            return given

        self.pipeline(
            f"{PROMPT}, {self.turn}",
            negative_prompt=f"{NEGATIVE}, {self.turn}",
            width=self.side,
            height=self.side,
            num_inference_steps=STEPS,
            guidance_scale=CFG,
            generator=torch.Generator().manual_seed(1),
            output_type="np",
            callback_on_step_end=after_step,
        )
        return [*marks, time.thread_time()]

    def ours(self) -> Marks:
        """The graph of a request, from its making to the picture."""
        self.turn += 1
        marks = [time.thread_time()]

        def hear(event: Any) -> None:
            step = getattr(event, "step", None)
            if step is not None and step.what == "sampling" and step.done:
                marks.append(time.thread_time())

        words, against = f"{PROMPT}, {self.turn}", f"{NEGATIVE}, {self.turn}"
        request = GenerateRequest(words, against, width=self.side, height=self.side, steps=STEPS, cfg=CFG, sampler="euler", seed=1)
        graph = graph_for(request)
        link = picture_of(graph)
        self.backend.run(graph, [link.node], on_event=hear).value(link.node, link.slot).numpy()
        return [*marks, time.thread_time()]


def _second_run(app: App) -> tuple[int, int]:
    """(texts encoded, models loaded) by a second run in which only the seed has changed."""
    backend, services, before = app.backend(), app.services(), (0, 0)
    for seed in (1, 2):
        before = services.counters.texts, services.residency.counters.loads
        graph = graph_for(GenerateRequest(PROMPT, NEGATIVE, width=64, height=64, steps=2, seed=seed))
        backend.run(graph, [picture_of(graph).node])
    return services.counters.texts - before[0], services.residency.counters.loads - before[1]
