"""The recipe's parts: a training goes on where it was, formats have the keys that readers expect, and the sizes add up."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato_resources.recipe.__main__ import main
from sfumato_resources.recipe.data import chunk_scenes, roughened
from sfumato_resources.recipe.decoder import mottled
from sfumato_resources.recipe.diffusion import alphas_cumprod, noised
from sfumato_resources.recipe.lanes import Lane
from sfumato_resources.recipe.lora import kohya_key
from sfumato_resources.recipe.presets import PRESETS, SMOKE, Plan
from sfumato_resources.recipe.progress import ProgressBar
from sfumato_resources.recipe.stages import STAGES
from sfumato_resources.recipe.text import attributes
from sfumato_resources.recipe.training import Step, learning_rate, train
from sfumato_resources.recipe.unet import thing_mask
from sfumato_resources.recipe.upscaler import degraded
from sfumato_resources.recipe.vae import psnr, whiten
from sfumato_resources.world.benchmark import held_out
from sfumato_resources.world.scenes import Scene, Thing

PLAN = Plan(steps=12, batch=4, rate=0.1, warmup=3, ema=0.9, weight_decay=0.01, checkpoint_every=5)


class Killed(Exception):
    """Stands for the end of a process."""


def fit_a_line(folder: Path, stop_at: int | None = None) -> torch.Tensor:
    """Fit two numbers to noisy points; ends early, as a kill would, before step ``stop_at``."""
    weights = torch.nn.Parameter(torch.zeros(2))

    def loss_of(step: Step) -> torch.Tensor:
        if step.index == stop_at:
            raise Killed
        x = torch.rand(step.batch, generator=step.generator)
        return ((weights[0] + weights[1] * x - (1 + 2 * x) - step.rng.gauss(0, 0.1)) ** 2).mean()

    train(Lane(), "line", PLAN, [([weights], 1.0)], loss_of, folder)
    return weights.detach()


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = fit_a_line(tmp_path / "whole")
    with pytest.raises(Killed):
        fit_a_line(tmp_path / "killed", stop_at=8)
    assert torch.equal(fit_a_line(tmp_path / "killed"), whole)
    assert whole.abs().sum() > 0.1


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = fit_a_line(tmp_path)
    assert torch.equal(fit_a_line(tmp_path, stop_at=0), first)


TWO_LANES = """
import sys
from pathlib import Path

import torch
from sfumato_resources.recipe.lanes import run_in_lanes

def work(lane, folder):
    used, unused = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))
    (used.sum() * (lane.rank + 1)).backward()
    lane.average_gradients([used, unused])
    (folder / str(lane.rank)).write_text(str(used.grad.tolist() + unused.grad.tolist()))
    lane.wait()

if __name__ == "__main__":
    run_in_lanes(work, 2, Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU one lane does the work")
def test_two_lanes_average_their_gradients(tmp_path: Path) -> None:
    script = tmp_path / "lanes.py"  # a file of its own, because the other processes import it
    script.write_text(TWO_LANES, encoding="utf-8")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=120)
    for rank in range(2):
        assert (tmp_path / str(rank)).read_text() == "[1.5, 1.5, 1.5, 0.0, 0.0]"


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    rates = [learning_rate(PLAN, index) for index in range(PLAN.steps)]
    assert rates[0] < rates[1] < rates[2] > rates[5] > rates[-1]
    assert learning_rate(PLAN, PLAN.steps) == pytest.approx(PLAN.rate / 50)


def test_noised_latents_and_their_velocity_determine_the_clean_ones() -> None:
    clean = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = noised(clean, torch.Generator().manual_seed(1))
    share = alphas_cumprod()[noise.timesteps][:, None, None, None]
    recovered = share.sqrt() * noise.latents - (1 - share).sqrt() * noise.target
    assert torch.allclose(recovered, clean, atol=1e-5)
    assert noise.loss(noise.target) == 0
    assert 0 < noise.weight.min() < noise.weight.max() == 1


def test_the_noise_schedule_is_stable_diffusions() -> None:
    shares = alphas_cumprod()
    assert len(shares) == 1000
    assert float(shares[0]) == pytest.approx(1 - 0.00085, abs=1e-6)
    assert float(shares[-1]) == pytest.approx(0.00466, abs=1e-5)


def test_training_scenes_are_none_of_the_held_out_ones() -> None:
    assert chunk_scenes(0) == chunk_scenes(0)
    assert chunk_scenes(0)[:5] != chunk_scenes(1)[:5]
    held = {scene for scene, _ in held_out(200)}
    assert not held & set(chunk_scenes(0))


def test_a_scene_becomes_one_class_for_every_question() -> None:
    alone = Scene("sea", "striped", (Thing("fish", "pink", 0.27, 0.5, 0.1, "small", "left", "center"),))
    assert attributes(alone) == [0, 9, 2, 9, 6, 10, 8, 0, 0, 1]
    two = Scene("white", "flat", (Thing("circle", "red", 0.3, 0.5, 0.18), Thing("star", "blue", 0.7, 0.5, 0.18)), "left-right")
    assert attributes(two) == [1, 0, 0, 0, 0, 3, 4, -100, -100, -100]


def test_roughened_captions_still_hold_the_caption_s_words() -> None:
    rng = random.Random(0)
    variants = {roughened("a red circle, on gray", rng) for _ in range(200)}
    assert len(variants) > 20
    assert all("red circle" in variant for variant in variants)


def test_the_mask_covers_the_things() -> None:
    scene = Scene("white", "flat", (Thing("circle", "red", 0.25, 0.75, 0.13),))
    mask = thing_mask(scene, 16)
    assert mask[12, 4] == 1 and mask[4, 12] == 0 and 0.05 < mask.mean() < 0.25


def test_kohya_keys_are_those_that_its_readers_know() -> None:
    unet = kohya_key("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.lora_B.weight")
    assert unet == ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_out_0", "lora_up")
    for path in ("encoder.layers.2.self_attn.q_proj", "text_model.encoder.layers.2.self_attn.q_proj"):
        text = kohya_key("text_encoder", f"{path}.lora_A.weight")
        assert text == ("lora_te_text_model_encoder_layers_2_self_attn_q_proj", "lora_down")


def test_degraded_crops_are_half_as_large() -> None:
    crop = np.full((96, 96, 3), 128, np.uint8)
    assert degraded(crop, random.Random(0)).shape == (48, 48, 3)


def test_mottled_latents_are_near_the_clean_ones_and_some_are_clean() -> None:
    latents = torch.zeros(400, 4, 10, 10)
    strength = mottled(latents, torch.Generator().manual_seed(0)).std((1, 2, 3))
    assert 0.1 < (strength == 0).float().mean() < 0.3
    assert 0.1 < strength.max() < 0.4


def test_whitening_changes_the_latents_and_not_the_pictures() -> None:
    from sfumato_resources.recipe.networks import new_vae  # diffusers takes seconds to import

    vae = new_vae(SMOKE)
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = psnr(vae, pictures)
    whiten(vae, pictures)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert psnr(vae, pictures) == pytest.approx(before, abs=1e-3)


def test_progress_is_a_bar_on_a_terminal_and_a_line_now_and_then_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        bar = ProgressBar("vae", 4, stream=stream)
        for done in range(1, 5):
            bar.show(done, "loss 0.5")
    assert "█" in terminal.getvalue() and "4/4" in terminal.getvalue()
    assert file.getvalue().count("\n") == len(file.getvalue().splitlines()) <= 2
    assert "█" not in file.getvalue()


def test_the_presets_are_known_by_their_names() -> None:
    assert {name: preset.name for name, preset in PRESETS.items()} == {name: name for name in PRESETS}
    assert replace(SMOKE, name="x") != SMOKE


@pytest.mark.slow
def test_the_command_makes_a_vocabulary_and_does_not_make_it_twice(tmp_path: Path) -> None:
    arguments = ["--workdir", str(tmp_path), "--preset", "smoke", "--processes", "1", "--only", "tokenizer"]
    assert main(arguments) == 0
    vocabulary = tmp_path / "tokenizer" / "vocab.json"
    numbers = json.loads(vocabulary.read_text(encoding="utf-8"))
    assert {"circle</w>", "sunset</w>", "<|endoftext|>"} <= set(numbers)
    written = vocabulary.stat().st_mtime_ns
    assert main(arguments) == 0
    assert vocabulary.stat().st_mtime_ns == written
    assert "tokenizer" in STAGES
