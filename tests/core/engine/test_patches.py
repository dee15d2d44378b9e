"""Weight patches: put on for a while, exact when taken off, worked out once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.devices import Device
from sfumato.engine.patches import Patch, applied, identity_of
from sfumato.engine.residency import Residency, Weights
from sfumato.errors import CancelledError
from sfumato.progress import Progress, Step


@dataclass
class Plus:
    """Adds a tensor. Counts how often it was asked."""

    change: Tensor
    asked: int = 0

    def apply(self, weight: Tensor, strength: float) -> Tensor:
        self.asked += 1
        assert weight.dtype == torch.float32
        return weight + strength * self.change


def patch(strength: float = 1.0, deltas: Mapping[str, Plus] | None = None, identity: str = "file") -> Patch:
    return Patch(identity, strength, deltas or {})


class Bench:
    """A network in a residency."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.residency = Residency(Device(torch.device("cpu"), 0), 1 << 30)
        self.dtype = dtype
        self.weights = self.residency.add("network", self._load)

    def _load(self, progress: Progress) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).to(self.dtype)

    def output(self, *patches: Patch, progress: Progress | None = None) -> Tensor:
        progress = progress or Progress()
        with self.residency.use(self.weights) as (module,), applied(self.residency, self.weights, module, patches, progress):
            found: Tensor = module(torch.ones(1, 3, dtype=self.dtype))
            return found.detach()

    def module(self, weights: Weights | None = None) -> Any:
        with self.residency.use(weights or self.weights) as (module,):
            return module


def test_a_patch_changes_the_weights_as_long_as_it_is_on() -> None:
    bench = Bench()
    before, change = bench.output(), torch.full((3, 3), 0.5)
    first, second = bench.module()
    expected = second((first.weight + 2.0 * change) @ torch.ones(3) + first.bias)
    assert torch.allclose(bench.output(patch(2.0, {"0.weight": Plus(change)})), expected)
    assert torch.equal(bench.output(), before)


def test_taking_a_patch_off_is_exact_even_where_adding_and_subtracting_would_not_be() -> None:
    bench = Bench(torch.bfloat16)
    originals = {name: p.detach().clone() for name, p in bench.module().named_parameters()}
    pointers = {name: p.data_ptr() for name, p in bench.module().named_parameters()}
    bench.output(patch(1.0, {"0.weight": Plus(torch.full((3, 3), 1e5)), "1.bias": Plus(torch.full((2,), 1e-5))}))
    for name, parameter in bench.module().named_parameters():
        assert torch.equal(parameter, originals[name])
        assert parameter.data_ptr() == pointers[name]


def test_patched_weights_keep_the_networks_dtype() -> None:
    bench = Bench(torch.bfloat16)
    assert bench.output(patch(1.0, {"0.weight": Plus(torch.ones(3, 3))})).dtype == torch.bfloat16


def test_a_stack_adds_up_before_it_is_rounded() -> None:
    bench = Bench(torch.bfloat16)
    up, down = Plus(torch.full((3, 3), 1000.0)), Plus(torch.full((3, 3), -1000.0))
    stack = (patch(1.0, {"0.weight": up}, "up"), patch(1.0, {"0.weight": down}, "down"))
    assert torch.allclose(bench.output(*stack), bench.output(), atol=1e-2)


def test_patches_that_do_nothing_cost_nothing() -> None:
    bench, delta = Bench(), Plus(torch.ones(3, 3))
    before = bench.output()
    loads = bench.residency.counters.loads
    assert torch.equal(bench.output(patch(0.0, {"0.weight": delta}), patch(1.0)), before)
    assert (delta.asked, bench.residency.counters.loads) == (0, loads)


def test_patched_copies_are_worked_out_once_for_each_stack() -> None:
    bench, delta = Bench(), Plus(torch.ones(3, 3))
    one = patch(1.0, {"0.weight": delta})
    first = bench.output(one)
    assert torch.equal(bench.output(one), first)
    assert delta.asked == 1
    bench.output(patch(0.5, {"0.weight": delta}))
    assert delta.asked == 2


def test_the_name_of_a_stack_tells_files_strengths_and_order_apart() -> None:
    a, b = patch(1.0, identity="a"), patch(1.0, identity="b")
    names = {identity_of(stack) for stack in [(a,), (b,), (a, b), (b, a), (patch(0.5, identity="a"),), (patch(1.0, identity="a,1.0"),)]}
    assert len(names) == 6
    assert identity_of((a, b)) == identity_of((patch(1.0, identity="a"), patch(1.0, identity="b")))


def test_patched_copies_count_for_the_budget_and_may_be_moved_out() -> None:
    bench, delta = Bench(), Plus(torch.ones(3, 3))
    plain = bench.module() and bench.residency.resident_bytes()
    bench.output(patch(1.0, {"0.weight": delta}))
    assert bench.residency.resident_bytes() == plain + 36
    bench.residency.unload()
    assert bench.residency.resident_bytes() == 0
    bench.output(patch(1.0, {"0.weight": delta}))
    assert delta.asked == 2


def test_patched_copies_do_not_keep_the_network_alive() -> None:
    bench = Bench()
    bench.output(patch(1.0, {"0.weight": Plus(torch.ones(3, 3))}))
    network = weakref.ref(bench.module())
    bench.weights.module = None  # as the residency does when it makes room
    gc.collect()
    assert network() is None


def test_a_reloaded_network_is_patched_again() -> None:
    bench, one = Bench(), patch(1.0, {"0.weight": Plus(torch.ones(3, 3))})
    before = bench.output(one)
    bench.residency.unload()
    assert torch.equal(bench.output(one), before)


def test_an_error_while_a_patch_is_on_takes_it_off() -> None:
    bench = Bench()
    before = bench.output()
    one = patch(1.0, {"0.weight": Plus(torch.ones(3, 3))})
    with (
        pytest.raises(ZeroDivisionError),
        bench.residency.use(bench.weights) as (module,),
        applied(bench.residency, bench.weights, module, (one,), Progress()),
    ):
        raise ZeroDivisionError
    assert torch.equal(bench.output(), before)
    assert all(entry.pins == 0 for entry in bench.residency._entries.values())


def test_a_cancel_between_two_patched_weights_leaves_the_network_as_it_was() -> None:
    bench, told = Bench(), []
    before = bench.output()

    def hear(step: Step) -> None:
        told.append(step.done)
        progress.cancel.set()

    progress = Progress(hear)
    with pytest.raises(CancelledError):
        bench.output(patch(1.0, {"0.weight": Plus(torch.ones(3, 3)), "1.weight": Plus(torch.ones(2, 3))}), progress=progress)
    assert told == [0]
    assert torch.equal(bench.output(), before)


def test_on_the_real_network_a_patch_changes_the_picture_and_leaves_no_trace(studio: Any) -> None:
    name = next(n for n, p in studio.module_of(studio.model).named_parameters() if n.endswith("attn2.to_k.weight"))
    shape = studio.module_of(studio.model).get_parameter(name).shape
    before = studio.sample().samples
    patched = studio.model.patched(Patch("test", 1.0, {name: Plus(torch.full(shape, 0.05))}))
    assert (studio.sample(model=patched).samples - before).abs().max() > 1e-3
    assert torch.equal(studio.sample().samples, before)
