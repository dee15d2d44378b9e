"""Who has which weights where: budgets, least recently used, pins, one lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.engine.devices import Device
from sfumato.engine.residency import Residency, TensorBag, Weights, module_bytes
from sfumato.errors import CancelledError
from sfumato.progress import Progress

KILOBYTE = 1024


def network(kilobytes: int = 1) -> nn.Module:
    """A network of so many bytes."""
    return nn.Linear(256 * kilobytes, 1, bias=False)


def loader(kilobytes: int = 1) -> Callable[[Progress], nn.Module]:
    return lambda progress: network(kilobytes)


def residency(kilobytes: int = 100) -> Residency:
    """On the CPU, with a budget."""
    return Residency(Device(torch.device("cpu"), 0), kilobytes * KILOBYTE)


def touch(where: Residency, *entries: Weights) -> None:
    for entry in entries:
        with where.use(entry):
            pass


def test_nothing_is_loaded_before_it_is_used() -> None:
    where = residency()
    entry = where.add("a", loader(3))
    assert (entry.device, entry.module, where.resident_bytes(), where.counters.loads) == (None, None, 0, 0)
    touch(where, entry)
    assert (entry.device, entry.bytes, where.resident_bytes(), where.counters.loads) == (torch.device("cpu"), 3 * KILOBYTE, 3 * KILOBYTE, 1)


def test_an_entry_is_loaded_once_and_known_by_its_key() -> None:
    where = residency()
    first = where.add("a", loader())
    assert where.add("a", loader(7)) is first
    touch(where, first, first)
    assert where.counters.loads == 1


def test_a_network_is_made_ready_for_use_and_not_for_training() -> None:
    where = residency()
    with where.use(where.add("a", lambda progress: nn.Dropout(0.5)), where.add("b", loader())) as (dropout, linear):
        assert not dropout.training
        assert not any(p.requires_grad for p in linear.parameters())


def test_what_was_used_longest_ago_goes_first() -> None:
    where = residency(3)
    a, b, c, d = (where.add(name, loader()) for name in "abcd")
    touch(where, a, b, c, a, d)
    assert [entry.module is not None for entry in (a, b, c, d)] == [True, False, True, True]
    assert where.counters.evictions == 1
    assert where.resident_bytes() == 3 * KILOBYTE
    touch(where, b)
    assert [entry.module is not None for entry in (a, b, c, d)] == [True, True, False, True]
    assert where.counters.loads == 5


def test_what_is_in_use_is_never_moved_out_even_over_the_budget() -> None:
    where = residency(2)
    a, b, c = (where.add(name, loader()) for name in "abc")
    with where.use(a, b) as (first, _):
        touch(where, c)
        assert a.module is first
        assert a.pins == b.pins == 1
        where.unload()
        assert a.module is first
        assert c.module is None
    assert a.pins == b.pins == 0
    touch(where, c)
    assert where.resident_bytes() == 2 * KILOBYTE


def test_several_entries_are_there_at_the_same_time_even_if_they_exceed_the_budget() -> None:
    where = residency(1)
    with where.use(where.add("a", loader(2)), where.add("b", loader(2))) as (a, b):
        assert a is not b
        assert module_bytes(a) == module_bytes(b) == 2 * KILOBYTE


def test_room_is_made_before_something_large_is_loaded() -> None:
    where = residency(4)
    small = where.add("small", loader(3))
    touch(where, small)
    seen: list[Any] = []

    def load(progress: Progress) -> nn.Module:
        seen.append(small.module)
        return network(3)

    touch(where, where.add("large", load, expected=3 * KILOBYTE))
    assert seen == [None]


def test_a_use_within_a_use_keeps_the_network_until_the_outer_one_ends() -> None:
    where = residency()
    entry = where.add("a", loader())
    with where.use(entry):
        touch(where, entry)
        assert entry.pins == 1
    assert entry.pins == 0


def test_a_load_that_fails_leaves_nothing_in_use_and_may_be_tried_again() -> None:
    where, attempts = residency(), []

    def load(progress: Progress) -> nn.Module:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("the disk is gone")
        return network()

    good, bad = where.add("good", loader()), where.add("bad", load)
    with pytest.raises(OSError, match="disk"), where.use(good, bad):
        raise AssertionError("never reached")
    assert (good.pins, bad.pins, bad.module, where.counters.loads) == (0, 0, None, 1)
    touch(where, bad)
    assert bad.module is not None


def test_a_cancel_before_a_load_leaves_the_entry_unloaded() -> None:
    where, progress = residency(), Progress()
    entry = where.add("a", loader())
    progress.cancel.set()
    with pytest.raises(CancelledError), where.use(entry, progress=progress):
        raise AssertionError("never reached")
    assert (entry.pins, entry.module) == (0, None)


def test_an_error_inside_a_use_ends_it() -> None:
    where = residency()
    entry = where.add("a", loader())
    with pytest.raises(ZeroDivisionError), where.use(entry):
        raise ZeroDivisionError
    assert entry.pins == 0


def test_threads_load_one_after_the_other_and_each_entry_once() -> None:
    where, at_work, most = residency(), 0, 0

    def load(progress: Progress) -> nn.Module:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.02)
        at_work -= 1
        return network()

    entries = [where.add(name, load) for name in "abc"] * 2
    threads = [threading.Thread(target=touch, args=(where, entry)) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, where.counters.loads) == (1, 3)
    assert all(entry.pins == 0 for entry in entries)


def test_two_threads_may_use_one_network_at_the_same_time() -> None:
    where = residency()
    entry, both = where.add("a", loader()), threading.Barrier(2, timeout=10)

    def work() -> None:
        with where.use(entry):
            both.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken
    assert (entry.pins, where.counters.loads) == (0, 1)


def test_derived_weights_are_forgotten_when_they_are_dropped() -> None:
    where = residency(2)
    base, derived = where.add("base", loader()), where.add("base+lora", loader(), is_derived=True)
    touch(where, base, derived)
    where.unload()
    assert where.add("base", loader(9)) is base
    assert where.add("base+lora", loader(), is_derived=True) is not derived


def test_derived_weights_that_were_dropped_before_their_use_count_again_when_used() -> None:
    where = residency()
    derived = where.add("base+lora", loader(), is_derived=True)
    touch(where, derived)
    where.unload()
    with where.use(derived):
        assert where.resident_bytes() == KILOBYTE
    where.unload()
    assert where.resident_bytes() == 0


def test_loose_tensors_live_like_a_network() -> None:
    where, tensors = residency(), {"a.weight": torch.ones(2), "a.bias": torch.zeros(3)}
    with where.use(where.add("bag", lambda progress: TensorBag(tensors))) as (bag,):
        assert {name: tensor.tolist() for name, tensor in bag.tensors().items()} == {"a.weight": [1, 1], "a.bias": [0, 0, 0]}
    assert where.resident_bytes() == 20


def test_a_second_run_with_another_seed_encodes_no_text_and_loads_nothing(app: Any) -> None:
    from sfumato.recipes import graph_for, picture_of
    from sfumato.request import GenerateRequest

    backend, services = app.backend(), app.services()
    request: dict[str, Any] = {"prompt": "a green star on a grey background", "width": 64, "height": 64, "steps": 2}
    pictures = []
    for seed in (1, 2):
        graph = graph_for(GenerateRequest(**request, seed=seed))
        before = services.counters.texts, services.residency.counters.loads
        link = picture_of(graph)
        pictures.append(backend.run(graph, [link.node]).value(link.node))
    assert (services.counters.texts, services.residency.counters.loads) == before
    assert not torch.equal(*pictures)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_has_a_budget_of_its_own() -> None:
    device = torch.device("cuda", 0)
    where = Residency(Device(device, 2 * KILOBYTE), 100 * KILOBYTE)
    a, b, c = (where.add(name, loader()) for name in "abc")
    touch(where, a, b, c)
    assert [str(entry.device) for entry in (a, b, c)] == ["cpu", "cuda:0", "cuda:0"]
    assert where.resident_bytes(device) == 2 * KILOBYTE
    assert where.counters.loads == 3
