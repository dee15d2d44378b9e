"""When memory runs out: what is tried, which rung is recorded, and that the next run does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.engine.ladder import FULL, TILED_VAE, UNLOADED_OTHERS, climb, is_out_of_memory, record
from sfumato.errors import MemoryExhaustedError
from sfumato.progress import Progress


@pytest.fixture
def rungs(services: Any) -> Iterator[list[str]]:
    """The rungs of the shared engine, cleared before and after."""
    services.rungs.clear()
    yield services.rungs
    services.rungs.clear()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_memory_that_has_run_out_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape '[3]' is invalid for input of size 4"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_what_torch_really_raises_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


def bench() -> Any:
    """As much of the engine as the ladder touches."""
    return SimpleNamespace(rungs=[])


def fail(error: BaseException) -> Any:
    raise error


def test_the_first_attempt_that_works_counts_and_no_later_one_is_made() -> None:
    services = bench()
    attempts = [(FULL, lambda: fail(MemoryError())), (TILED_VAE, lambda: "picture"), (UNLOADED_OTHERS, lambda: fail(AssertionError()))]
    assert climb(services, attempts, "to paint", "Buy some.") == "picture"
    assert services.rungs == [TILED_VAE]


def test_the_first_rung_is_no_news() -> None:
    services = bench()
    assert climb(services, [(FULL, lambda: 3)], "to paint", "Buy some.") == 3
    assert services.rungs == []


def test_rungs_are_told_once_and_the_highest_last() -> None:
    services = bench()
    for rung in (UNLOADED_OTHERS, TILED_VAE, FULL, TILED_VAE):
        record(services, rung)
    assert services.rungs == [TILED_VAE, UNLOADED_OTHERS]


def test_after_the_last_rung_there_is_one_clear_error() -> None:
    attempts = [(FULL, lambda: fail(torch.OutOfMemoryError("no 5 GB\nsecond line")))] * 2
    with pytest.raises(MemoryExhaustedError) as caught:
        climb(bench(), attempts, "to paint", "Buy some.")
    assert str(caught.value) == "there is not enough memory to paint (no 5 GB)\n  Buy some."
    assert caught.value.exit_code == 5


def test_an_error_of_another_kind_passes_at_once() -> None:
    attempts = [(FULL, lambda: fail(RuntimeError("bad shape"))), (TILED_VAE, lambda: fail(AssertionError()))]
    with pytest.raises(RuntimeError, match="bad shape"):
        climb(bench(), attempts, "to paint", "")


def test_what_the_failed_attempt_held_is_gone_before_the_next() -> None:
    import weakref

    held: list[Any] = []

    def first() -> Any:
        large = nn.Linear(2, 2)
        held.append(weakref.ref(large))
        raise MemoryError(large.in_features)

    assert climb(bench(), [(FULL, first), (TILED_VAE, lambda: held[0]())], "to paint", "") is None


# --- On the real model ---------------------------------------------------------------------------------------------------


class Hungry:
    """A codec on a machine with little memory: raises for more than so many numbers at a time."""

    def __init__(self, codec: Any, most: int) -> None:
        self._codec, self._most = codec, most
        self.channels, self.downscale, self.blocks = codec.channels, codec.downscale, codec.blocks

    def decode(self, module: Any, latents: Tensor) -> Tensor:
        return self._checked(latents, self._codec.decode(module, latents))

    def encode(self, module: Any, pixels: Tensor) -> Tensor:
        return self._checked(pixels, self._codec.encode(module, pixels))

    def _checked(self, given: Tensor, result: Tensor) -> Tensor:
        if given.numel() > self._most:
            raise torch.OutOfMemoryError(f"tried {given.numel()}")
        return result


def test_a_picture_too_large_to_decode_is_decoded_in_tiles(studio: Any, rungs: list[str]) -> None:
    from sfumato.engine import codec

    latent = torch.randn(1, 4, 18, 24, generator=torch.Generator().manual_seed(1)) * 4
    before = studio.decode(latent)
    assert rungs == []
    small = replace(studio.vae, codec=Hungry(studio.vae.codec, 4 * 16 * 16))
    tiled = codec.decode(studio.services, small, latent, Progress.silent())
    assert rungs == [TILED_VAE]
    assert torch.equal(tiled, codec.decode_tiled(studio.services, studio.vae, latent, 128, codec.LADDER_OVERLAP, Progress.silent()))
    assert torch.equal(studio.decode(latent), before)


def test_a_picture_too_large_to_encode_is_encoded_in_tiles(studio: Any, rungs: list[str]) -> None:
    from sfumato.engine import codec

    picture = torch.rand(1, 136, 176, 3, generator=torch.Generator().manual_seed(1))
    small = replace(studio.vae, codec=Hungry(studio.vae.codec, 3 * 128 * 128))
    tiled = codec.encode(studio.services, small, picture, Progress.silent())
    assert rungs == [TILED_VAE]
    assert torch.equal(tiled, codec.encode_tiled(studio.services, studio.vae, picture, 128, codec.LADDER_OVERLAP, Progress.silent()))


def test_where_even_tiles_do_not_fit_the_error_says_what_to_do(studio: Any, rungs: list[str]) -> None:
    from sfumato.engine import codec

    starving = replace(studio.vae, codec=Hungry(studio.vae.codec, 10))
    with pytest.raises(MemoryExhaustedError, match="256 pixels, even in tiles"):
        codec.decode(studio.services, starving, torch.zeros(1, 4, 32, 32), Progress.silent())
    with pytest.raises(MemoryExhaustedError, match="in tiles of 64"):
        codec.decode_tiled(studio.services, starving, torch.zeros(1, 4, 32, 32), 64, 16, Progress.silent())
    assert rungs == []


class Burst:
    """A hook on a network that fails for want of memory, so many times."""

    def __init__(self, block: nn.Module, times: int) -> None:
        self.left = times
        self._handle = block.register_forward_pre_hook(self._look)

    def _look(self, *_: Any) -> None:
        if self.left:
            self.left -= 1
            raise torch.OutOfMemoryError("tried 9 GB")

    def leave(self) -> None:
        self._handle.remove()


def test_a_run_without_memory_is_tried_once_more_with_everything_else_unloaded(studio: Any, rungs: list[str]) -> None:
    before = studio.sample(sampler="euler_ancestral").samples
    studio.module_of(studio.vae)
    burst = Burst(studio.module_of(studio.model).mid_block, 1)
    again = studio.sample(sampler="euler_ancestral").samples
    assert (burst.left, rungs) == (0, [UNLOADED_OTHERS])
    assert studio.vae.weights.module is None
    assert torch.equal(again, before)
    assert torch.equal(studio.sample(sampler="euler_ancestral").samples, before)


def test_a_run_that_never_has_memory_ends_with_a_clear_error_and_the_next_one_works(studio: Any, rungs: list[str]) -> None:
    before, real = studio.sample().samples, studio.model.network

    class Starving:
        in_channels, blocks = real.in_channels, real.blocks

        def __call__(self, module: nn.Module, call: Any) -> Tensor:
            real(module, call)
            raise torch.OutOfMemoryError("tried 9 GB")

    with pytest.raises(MemoryExhaustedError, match=r"to denoise 3 latents of 16x16 \(tried 9 GB\)"):
        studio.sample(studio.blank(3), model=replace(studio.model, network=Starving()))
    assert rungs == []
    assert torch.equal(studio.sample().samples, before)
