"""Upscalers: their files, and pictures enlarged whole, in tiles, under cancel and with too little memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sfumato_upscale
from sfumato.engine.devices import Device
from sfumato.engine.services import Registered, Services
from sfumato.errors import CancelledError, MemoryExhaustedError, ModelFileError, ModelMissingError
from sfumato.models import ModelLibrary
from sfumato.nodes import node_types
from sfumato.paths import Folders
from sfumato.progress import CancelFlag, Progress, Step
from sfumato_upscale import enlarging, nodes, reading

Tensors = dict[str, torch.Tensor]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def compact(scale: int = 2, width: int = 6, convolutions: int = 1, channels: int = 3) -> Tensors:
    """A random network of the Real-ESRGAN Compact architecture: it adds its output to the picture repeated `scale` times."""
    tensors: Tensors = {}
    sizes = [channels, *[width] * (convolutions + 1), channels * scale**2]
    for place, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        tensors[f"body.{2 * place}.weight"] = normal(outer, inner, 3, 3, seed=place) * 0.15
        tensors[f"body.{2 * place}.bias"] = normal(outer, seed=100 + place) * 0.01
        if place <= convolutions:
            tensors[f"body.{2 * place + 1}.weight"] = torch.full((width,), 0.2)
    return tensors


@pytest.fixture
def engine(tmp_path: Path) -> Services:
    registered = Registered(upscalers=sfumato_upscale.register_upscalers())
    return Services.make(ModelLibrary(Folders.under(tmp_path)), registered, device=Device(torch.device("cpu"), 1 << 30))


@pytest.fixture
def context(engine: Services) -> Any:
    return SimpleNamespace(services=engine, progress=Progress.silent())


def save(context: Any, tensors: Tensors, name: str = "small.safetensors") -> str:
    folder = context.services.library.folders("upscale_models")[0]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name)
    return name


def load(context: Any, tensors: Tensors | None = None, name: str = "small.safetensors") -> Any:
    return nodes.upscale_model_loader(context, save(context, tensors or compact(), name))[0]


# --- Pictures --------------------------------------------------------------------------------------------------------


def by_hand(tensors: Tensors, image: torch.Tensor, scale: int) -> torch.Tensor:
    """The Compact architecture written down once more: convolutions, PReLU, pixel shuffle, and the picture itself added."""
    x = pixels = image.movedim(-1, 1)
    last = max(int(name.split(".")[1]) for name in tensors)
    for place in range(0, last + 1, 2):
        x = nn.functional.conv2d(x, tensors[f"body.{place}.weight"], tensors[f"body.{place}.bias"], padding=1)
        if place < last:
            x = nn.functional.prelu(x, tensors[f"body.{place + 1}.weight"])
    x = nn.functional.pixel_shuffle(x, scale) + nn.functional.interpolate(pixels, scale_factor=scale, mode="nearest")
    return x.clamp(0, 1).movedim(1, -1)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(17, 23), (1, 1), (1, 40), (64, 3)])
def test_a_picture_of_any_size_is_enlarged_as_the_formula_says(context: Any, scale: int, height: int, width: int) -> None:
    tensors = compact(scale)
    image = picture(1, height, width, 3)
    (larger,) = nodes.image_upscale_with_model(context, load(context, tensors), image)
    assert larger.shape == (1, height * scale, width * scale, 3) and larger.dtype == torch.float32
    torch.testing.assert_close(larger, by_hand(tensors, image, scale), atol=2e-6, rtol=0)


def test_tiles_leave_no_seam(context: Any) -> None:
    upscaler = load(context)
    image = picture(1, 200, 150, 3)
    whole = enlarging.enlarged(context.services, upscaler, image, Progress.silent())
    tiles = enlarging.enlarged(context.services, upscaler, image, Progress.silent(), tile=96)
    assert not torch.equal(whole, tiles)
    assert (whole - tiles).abs().mean() < 1e-3 and (whole - tiles).abs().max() < 0.05


def test_far_from_the_edges_of_a_tile_nothing_differs(context: Any) -> None:
    upscaler = load(context)
    image = picture(1, 96, 128, 3)
    whole = enlarging.enlarged(context.services, upscaler, image, Progress.silent())
    tiles = enlarging.enlarged(context.services, upscaler, image, Progress.silent(), tile=96)
    # two tiles of 96 columns that share 64; three layers of 3x3 see three pixels further
    torch.testing.assert_close(tiles[:, :, :58], whole[:, :, :58], atol=1e-6, rtol=0)


def test_the_pictures_of_a_batch_are_enlarged_one_by_one(context: Any) -> None:
    upscaler = load(context)
    batch = picture(3, 20, 30, 3)
    (together,) = nodes.image_upscale_with_model(context, upscaler, batch)
    apart = [nodes.image_upscale_with_model(context, upscaler, one[None])[0] for one in batch]
    assert torch.equal(together, torch.cat(apart))


def test_alpha_comes_along(context: Any) -> None:
    upscaler = load(context)
    image = picture(2, 20, 30, 4)
    image[0, ..., 3], image[1, ..., 3] = 1.0, 0.0
    (larger,) = nodes.image_upscale_with_model(context, upscaler, image)
    assert larger.shape == (2, 40, 60, 4)
    assert torch.equal(larger[0, ..., 3], torch.ones(40, 60)) and torch.equal(larger[1, ..., 3], torch.zeros(40, 60))
    assert torch.equal(larger[..., :3], nodes.image_upscale_with_model(context, upscaler, image[..., :3])[0])


def test_an_alpha_edge_stays_where_it_was(context: Any) -> None:
    image = picture(1, 16, 16, 4)
    image[..., 3] = 0.0
    image[:, :, 8:, 3] = 1.0
    alpha = nodes.image_upscale_with_model(context, load(context), image)[0][..., 3]
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert torch.equal((alpha > 0.5).float()[0], torch.cat([torch.zeros(32, 16), torch.ones(32, 16)], dim=1))


def test_a_grey_network_enlarges_each_colour(context: Any) -> None:
    tensors = compact(channels=1)
    image = picture(1, 12, 9, 3)
    (larger,) = nodes.image_upscale_with_model(context, load(context, tensors), image)
    for channel in range(3):
        one = image[..., channel : channel + 1]
        torch.testing.assert_close(larger[..., channel : channel + 1], by_hand(tensors, one, 2), atol=2e-6, rtol=0)


def test_the_picture_that_came_in_is_untouched_and_the_result_may_be_written_to(context: Any) -> None:
    image = picture(1, 8, 8, 3)
    before = image.clone()
    (larger,) = nodes.image_upscale_with_model(context, load(context), image)
    larger += 1
    assert torch.equal(image, before)


# --- Progress, cancel, memory ----------------------------------------------------------------------------------------


def test_progress_counts_the_tiles_of_the_batch(context: Any) -> None:
    steps: list[Step] = []
    upscaler = load(context)
    enlarging.enlarged(context.services, upscaler, picture(2, 96, 160, 3), Progress(steps.append), tile=96)
    upscaling = [(s.done, s.total) for s in steps if s.what == "upscaling"]
    assert upscaling[0] == (0, 4) and upscaling[-1] == (4, 4) and upscaling == sorted(upscaling)


def test_a_cancel_stops_before_the_next_tile(context: Any) -> None:
    flag, upscaler = CancelFlag(), load(context)
    seen = []

    def listen(step: Step) -> None:
        seen.append(step.done)
        if step.done == 1:
            flag.set()

    with pytest.raises(CancelledError):
        enlarging.enlarged(context.services, upscaler, picture(1, 96, 300, 3), Progress(listen, flag), tile=96)
    assert seen == [0, 1]
    assert upscaler.weights.pins == 0


@dataclass
class Greedy:
    """An upscaler that works on small tiles only, as on a device with little memory."""

    inner: Any
    fits: int
    error: BaseException
    sides: list[int]
    cuts_itself: bool = False

    name = "greedy"
    scale = 2

    @property
    def weights(self) -> Any:
        return self.inner.weights

    def __call__(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        self.sides.append(max(pixels.shape[-2:]))
        if self.sides[-1] > self.fits:
            raise self.error
        result: torch.Tensor = self.inner(module, pixels)
        return result


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_when_memory_runs_out_the_tile_is_halved(context: Any, error: BaseException) -> None:
    greedy = Greedy(load(context), 80, error, [])
    image = picture(2, 150, 200, 3)
    larger = enlarging.enlarged(context.services, greedy, image, Progress.silent())
    assert greedy.sides[:2] == [200, 100] and set(greedy.sides[2:]) == {64}
    assert context.services.rungs == ["smaller tiles"]
    expected = enlarging.enlarged(context.services, greedy.inner, image, Progress.silent(), tile=64)
    assert torch.equal(larger, expected)


class FailsOnce(Greedy):
    """Has enough memory, but for its second call."""

    def __call__(self, module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        if len(self.sides) == 1:
            self.sides.append(0)
            raise self.error
        return super().__call__(module, pixels)


def test_a_batch_that_fails_half_way_is_begun_again(context: Any) -> None:
    upscaler, batch = load(context), picture(2, 80, 100, 3)
    larger = enlarging.enlarged(context.services, FailsOnce(upscaler, 1000, OUT_OF_MEMORY[0], []), batch, Progress.silent())
    assert torch.equal(larger, enlarging.enlarged(context.services, upscaler, batch, Progress.silent(), tile=64))


@pytest.mark.slow
def test_when_not_even_the_smallest_tile_fits_the_remedy_is_named(context: Any) -> None:
    greedy = Greedy(load(context), 10, OUT_OF_MEMORY[0], [])
    with pytest.raises(MemoryExhaustedError) as caught:
        enlarging.enlarged(context.services, greedy, picture(1, 300, 300, 3), Progress.silent())
    assert caught.value.remedy and greedy.sides == [300, 150, 75, 64, 64]
    assert context.services.rungs == []


def test_other_errors_are_not_taken_for_lack_of_memory(context: Any) -> None:
    greedy = Greedy(load(context), 10, RuntimeError("size mismatch"), [])
    with pytest.raises(RuntimeError, match="size mismatch"):
        enlarging.enlarged(context.services, greedy, picture(1, 300, 300, 3), Progress.silent())
    assert len(greedy.sides) == 1


def test_a_network_that_cuts_the_picture_itself_gets_all_of_it(context: Any) -> None:
    greedy = Greedy(load(context), 10_000, RuntimeError(), [], cuts_itself=True)
    enlarging.enlarged(context.services, greedy, picture(1, 40, 700, 3), Progress.silent())
    assert greedy.sides == [700]


def test_a_result_that_cannot_fit_is_refused_before_the_work(context: Any) -> None:
    upscaler = replace(load(context), scale=1 << 20)
    with pytest.raises(MemoryExhaustedError, match="GB"):
        enlarging.enlarged(context.services, upscaler, picture(1, 8, 8, 3), Progress.silent())


# --- Files -----------------------------------------------------------------------------------------------------------


def test_the_file_is_loaded_once_and_belongs_to_the_residency(context: Any) -> None:
    first, second = load(context), nodes.upscale_model_loader(context, "small")[0]
    assert first == second and (first.name, first.scale) == ("small", 2)
    assert context.services.residency.counters.loads == 1
    context.services.residency.unload()
    assert context.services.residency.resident_bytes() == 0
    nodes.image_upscale_with_model(context, first, picture(1, 8, 8, 3))
    assert context.services.residency.counters.loads == 2


def test_an_esrgan_file_is_recognised(context: Any) -> None:
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(num_filters=8, num_blocks=1, scale=4)
    upscaler = load(context, {name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    image = picture(1, 9, 13, 3)
    (larger,) = nodes.image_upscale_with_model(context, upscaler, image)
    with torch.inference_mode():
        expected = network(image.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(larger, expected, atol=1e-6, rtol=0)


def test_a_pickled_file_is_refused_unopened(context: Any) -> None:
    folder = context.services.library.folders("upscale_models")[0]
    folder.mkdir(parents=True)
    (folder / "old.pth").write_bytes(b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00exit\x85R.")
    with pytest.raises(ModelFileError, match="pickled") as caught:
        nodes.upscale_model_loader(context, "old.pth")
    assert "safetensors" in caught.value.remedy


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"something.weight": torch.zeros(2, 2)}, "no installed upscaler format"),
        ({"body.0.weight": torch.zeros(6, 3, 3, 3), "body.1.weight": torch.zeros(6)}, "cannot be built"),
        ({**compact(), "body.123456789.weight": torch.zeros(1)}, "counts further"),
        ({**compact(), "body.1234567890123456789012345.weight": torch.zeros(1)}, "counts further"),
        ({**compact(), "body.0.bias": torch.zeros(5)}, "cannot be built"),
    ],
)
def test_a_file_that_is_no_upscaler_says_why(context: Any, tensors: Tensors, says: str) -> None:
    with pytest.raises(ModelFileError, match=says) as caught:
        load(context, tensors)
    assert "small.safetensors" in caught.value.where


def test_a_network_that_fills_holes_is_no_upscaler(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import spandrel

    class Filler:
        architecture = SimpleNamespace(name="LaMa")
        input_channels = 4

    monkeypatch.setattr(spandrel.ModelLoader, "load_from_state_dict", lambda self, tensors: Filler())
    with pytest.raises(ModelFileError, match="LaMa network is no upscaler"):
        load(context)


def test_a_missing_upscaler_is_named(context: Any) -> None:
    with pytest.raises(ModelMissingError, match="nowhere"):
        nodes.upscale_model_loader(context, "nowhere.safetensors")


@pytest.mark.parametrize(
    ("device", "half", "precision", "expected"),
    [
        ("cpu", True, "auto", torch.float32),
        ("cuda", True, "auto", torch.float16),
        ("cuda", False, "auto", torch.float32),
        ("cuda", True, "float32", torch.float32),
        ("cuda", True, "bfloat16", torch.float32),
    ],
)
def test_half_precision_is_used_where_the_device_gains_and_the_network_allows_it(
    device: str, half: bool, precision: str, expected: torch.dtype
) -> None:
    services: Any = SimpleNamespace(device=torch.device(device), precision=precision)
    assert reading._dtype(services, SimpleNamespace(supports_half=half)) is expected


def test_the_nodes_have_comfyuis_names_and_sockets() -> None:
    types = {t.name: t for t in node_types(nodes)}
    assert [(i.name, i.type) for i in types["UpscaleModelLoader"].inputs] == [("model_name", "COMBO")]
    assert [(i.name, i.type) for i in types["ImageUpscaleWithModel"].inputs] == [("upscale_model", "UPSCALE_MODEL"), ("image", "IMAGE")]
    assert [o.type for t in types.values() for o in t.outputs] == ["UPSCALE_MODEL", "IMAGE"]


def test_the_plugin_imports_neither_torch_nor_spandrel() -> None:
    offers = "import sys, sfumato_upscale as p; p.register_nodes(); p.register_upscalers()"
    code = f"{offers}; sys.exit(bool({{'torch', 'spandrel'}} & {{*sys.modules}}))"
    subprocess.run([sys.executable, "-c", code], check=True)
