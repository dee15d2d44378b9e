"""A whole pipeline as a node: the same picture as the pipeline itself, its weights in the residency, cancel at a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.errors import BadValueError, CancelledError, ModelFileError
from sfumato.models import ModelFile
from sfumato.progress import CancelFlag, Progress, Step
from sfumato_diffusers.pipeline import Settings, run

SETTINGS = Settings("a red circle", "", 128, 128, 3, 1, 4, 5.0)


def _embedded(folder: Path) -> ModelFile:
    return ModelFile("checkpoints", "embedded", folder)


def test_the_node_gives_the_picture_that_the_pipeline_gives(services: Any, embedded_folder: Path) -> None:
    from diffusers import DiffusionPipeline

    ours = run(services, _embedded(embedded_folder), SETTINGS, Progress.silent())
    pipeline = DiffusionPipeline.from_pretrained(str(embedded_folder), dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = pipeline(
        "a red circle", width=128, height=128, num_inference_steps=4, guidance_scale=5.0, generator=generator, output_type="np"
    ).images
    assert torch.equal(ours, torch.as_tensor(theirs))


def test_its_weights_belong_to_the_residency(services: Any, embedded_folder: Path) -> None:
    run(services, _embedded(embedded_folder), SETTINGS, Progress.silent())
    loads = services.residency.counters.loads
    run(services, _embedded(embedded_folder), SETTINGS, Progress.silent())
    assert services.residency.counters.loads == loads


def test_a_cancel_ends_it_at_the_next_step(services: Any, embedded_folder: Path) -> None:
    flag, steps = CancelFlag(), list[Step]()

    def listen(step: Step) -> None:
        steps.append(step)
        if step.what == "sampling":
            flag.set()

    with pytest.raises(CancelledError):
        run(services, _embedded(embedded_folder), SETTINGS, Progress(listen, flag))
    assert [s.done for s in steps if s.what == "sampling"] == [1]


def test_a_folder_without_a_pipeline_is_named(services: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no folder of a diffusers pipeline"):
        run(services, ModelFile("checkpoints", "x", tmp_path), SETTINGS, Progress.silent())


def test_a_setting_that_the_pipeline_does_not_have_is_an_error(services: Any, embedded_folder: Path) -> None:
    class Bare:
        def __call__(self, prompt: str, num_inference_steps: int = 5) -> None: ...

    from sfumato_diffusers.pipeline import _arguments

    with pytest.raises(BadValueError, match="guidance_scale"):
        _arguments(Bare(), SETTINGS, torch.device("cpu"), Progress.silent())
