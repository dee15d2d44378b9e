"""A cancel in the middle of anything: it ends at once, and nothing of it is left behind."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.engine import codec, text_encoding
from sfumato.engine.cancel import cancellable
from sfumato.errors import CancelledError
from sfumato.progress import Progress, Step


def hooks_of(module: nn.Module) -> int:
    """How many hooks are on a network."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


class Saboteur:
    """Sets the cancel flag from inside a network, after so many calls of one of its blocks."""

    def __init__(self, block: nn.Module, after: int = 1) -> None:
        self.progress, self.calls, self._after = Progress(), 0, after
        self._handle = block.register_forward_hook(self._look)

    def _look(self, *_: Any) -> None:
        self.calls += 1
        if self.calls == self._after:
            self.progress.cancel.set()

    def leave(self) -> None:
        self._handle.remove()


@pytest.mark.parametrize("after", [1, 3])
def test_a_cancel_inside_a_step_leaves_nothing_behind(studio: Any, after: int) -> None:
    unet = studio.module_of(studio.model)
    before, hooks = studio.sample().samples, hooks_of(unet)
    saboteur, later = Saboteur(unet.mid_block, after), 0

    def count(*_: Any) -> None:
        nonlocal later
        later += saboteur.progress.cancel.is_set()

    watch = unet.conv_out.register_forward_hook(count)
    with pytest.raises(CancelledError):
        studio.sample(progress=saboteur.progress)
    saboteur.leave()
    watch.remove()
    assert (saboteur.calls, later) == (after, 0)  # the forward pass that was under way was not finished
    assert hooks_of(unet) == hooks
    assert studio.model.weights.pins == 0
    assert torch.equal(studio.sample().samples, before)


def test_a_cancel_reaches_the_blocks_of_a_decoder(studio: Any) -> None:
    vae, samples = studio.module_of(studio.vae), studio.sample().samples
    before = studio.decode(samples)
    saboteur = Saboteur(vae.decoder.mid_block)
    with pytest.raises(CancelledError):
        studio.decode(samples, saboteur.progress)
    saboteur.leave()
    assert (hooks_of(vae), studio.vae.weights.pins) == (0, 0)
    assert torch.equal(studio.decode(samples), before)


@pytest.mark.parametrize("way", ["decode", "encode"])
def test_a_cancel_between_tiles_does_no_more_tiles(studio: Any, way: str) -> None:
    done: list[int] = []

    def hear(step: Step) -> None:
        if "tiles" in step.what:
            done.append(step.done)
            if step.done == 1:
                progress.cancel.set()

    progress = Progress(hear)
    with pytest.raises(CancelledError):
        if way == "decode":
            codec.decode_tiled(studio.services, studio.vae, torch.zeros(1, 4, 24, 24), 64, 16, progress)
        else:
            codec.encode_tiled(studio.services, studio.vae, torch.zeros(1, 192, 192, 3), 64, 16, progress)
    assert done == [0, 1]
    assert studio.vae.weights.pins == 0


def test_a_cancel_between_two_tensors_leaves_the_model_unloaded_and_the_next_load_works(studio: Any) -> None:
    before = studio.sample().samples
    studio.services.residency.unload()
    told: list[Step] = []

    def hear(step: Step) -> None:
        told.append(step)
        if step.what.startswith("loading") and step.done == 20:
            progress.cancel.set()

    progress = Progress(hear)
    with pytest.raises(CancelledError):
        studio.sample(progress=progress)
    assert told[-1].done == 20 < told[-1].total
    assert (studio.model.weights.module, studio.model.weights.pins, studio.model.weights.bytes) == (None, 0, 0)
    assert torch.equal(studio.sample().samples, before)


def test_a_cancel_before_the_text_encoder_runs_nothing(studio: Any) -> None:
    progress = Progress()
    progress.cancel.set()
    with pytest.raises(CancelledError):
        text_encoding.encode_text(studio.services, studio.clip, "a house", "sfumato", progress)
    assert studio.clip.weights.pins == 0


def test_a_cancel_is_looked_for_before_every_block(studio: Any) -> None:
    unet = studio.module_of(studio.model)
    blocks = studio.model.network.blocks(unet)
    resnets = [m for m in unet.modules() if type(m).__name__ == "ResnetBlock2D"]
    transformers = [m for m in unet.modules() if type(m).__name__ == "Transformer2DModel"]
    assert set(map(id, blocks)) == set(map(id, resnets + transformers))
    assert len(blocks) == len(set(map(id, blocks)))


def test_one_threads_cancel_does_not_stop_another_that_uses_the_same_network() -> None:
    network, mine, other = nn.Linear(2, 2), Progress(), Progress()
    results: list[Any] = []
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with cancellable([network], other):
            inside.set()
            go_on.wait(10)
            results.append(network(torch.zeros(1, 2)))

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    with cancellable([network], mine):
        mine.cancel.set()
        go_on.set()
        thread.join()
        with pytest.raises(CancelledError):
            network(torch.zeros(1, 2))
    assert len(results) == 1
    assert not network._forward_pre_hooks


def test_a_flag_set_by_another_thread_ends_a_run_within_a_step(studio: Any) -> None:
    progress = Progress(lambda step: started.set() if step.what == "sampling" and step.done == 1 else None)
    started, ended = threading.Event(), []

    def work() -> None:
        try:
            studio.sample(levels=studio.sigmas(200), progress=progress)
        except CancelledError:
            ended.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(30)
    asked = time.perf_counter()
    progress.cancel.set()
    thread.join(30)
    assert ended and ended[0] - asked < 5  # a step takes 50 ms; the rest is room for a busy machine
