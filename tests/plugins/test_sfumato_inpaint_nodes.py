"""The nodes of inpainting: through the catalogue with tensors, and whole requests with the embedded model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from sfumato.app import App
from sfumato.errors import BadValueError
from sfumato.images import to_8_bits
from sfumato.nodes import MISSING, Result
from sfumato.recipes import picture_of
from sfumato.request import Borders, GenerateRequest

FILLS = ("original", "neutral", "blur", "harmonic", "patch", "telea", "navier_stokes")


def call(app: App, name: str, **inputs: Any) -> tuple[Any, ...]:
    """The outputs of a node, its other inputs at their defaults."""
    node_type = app.catalogue.get(name)
    assert node_type is not None
    usual = {socket.name: socket.default for socket in node_type.inputs if socket.default is not MISSING}
    answer = node_type.make().run(SimpleNamespace(services=app.services()), {**usual, **inputs})
    return answer.values if isinstance(answer, Result) else tuple(answer)


def scene(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A gradient with a dark square, and a mask that is soft at its edge."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 80), indexing="ij")
    image = torch.stack([0.2 + 0.5 * x, 0.3 + 0.4 * y, 0.6 - 0.3 * x], -1)[None].repeat(batch, 1, 1, 1)
    image[:, 24:40, 30:50] = 0.05
    mask = torch.zeros(1, 64, 80)
    mask[:, 20:44, 26:54] = 1
    mask[:, 20] = mask[:, 20] * 0.5
    return image, mask


@pytest.mark.parametrize("fill", FILLS)
def test_every_fill_keeps_what_lies_outside_to_the_bit(app: App, fill: str) -> None:
    image, mask = scene(2)
    (found,) = call(app, "InpaintFill", image=image, mask=mask, fill=fill)
    outside = (mask == 0).expand(2, -1, -1)
    assert found.shape == image.shape and found.dtype == torch.float32
    assert torch.equal(found[outside], image[outside])
    if fill not in ("original", "neutral"):  # the square is gone, the gradient goes on
        assert float((found[0, 32, 40] - torch.tensor([0.453, 0.503, 0.448])).abs().max()) < 0.12


def test_the_fills_are_those_that_the_choice_offers(app: App) -> None:
    assert tuple(app.catalogue.resolve("fills")) == FILLS
    image, mask = scene()
    with pytest.raises(BadValueError, match="unknown fill 'nothing'"):
        call(app, "InpaintFill", image=image, mask=mask, fill="nothing")
    with pytest.raises(BadValueError, match="the mask is 40x40"):
        call(app, "InpaintFill", image=image, mask=torch.ones(1, 40, 40), fill="harmonic")


def test_a_picture_is_continued_into_its_borders(app: App) -> None:
    image, _ = scene()
    found, mask = call(app, "OutpaintPrefill", image=image, left=16, bottom=8, fill="harmonic")
    assert found.shape == (1, 72, 96, 3) and float(mask.sum()) == 72 * 96 - 64 * 80
    assert torch.equal(found[:, :64, 16:], image)
    assert float((found[0, 10, 0] - image[0, 10, 0]).abs().max()) < 0.1


def test_crop_and_stitch_take_batches_back_to_their_place(app: App) -> None:
    image, mask = scene(2)
    crop, hole, stitch = call(app, "InpaintCrop", image=image, mask=mask, resolution=128)
    assert crop.shape[0] == 2 and crop.shape[1:3] == hole.shape[1:] and crop.shape[1] % 8 == 0
    (after,) = call(app, "InpaintStitch", stitch=stitch, image=torch.ones_like(crop))
    outside = (mask == 0).expand(2, -1, -1)
    assert torch.equal(after[outside], image[outside]) and torch.equal(after[:, 30, 40], torch.ones(2, 3))
    (alike,) = call(app, "InpaintCropAlike", image=image[:1], stitch=stitch)
    assert torch.equal(alike[0], crop[0])
    with pytest.raises(BadValueError, match="selection is empty"):
        call(app, "InpaintCrop", image=image, mask=torch.zeros_like(mask))


def test_a_composite_says_how_many_original_pixels_changed(app: App) -> None:
    image, mask = scene()
    assert call(app, "ProtectedComposite", original=image, image=1 - image, mask=mask, feather=6.0)[1] == 0
    assert call(app, "ProtectedComposite", original=image, image=1 - image, mask=mask, feather=6.0, edge="outward", protect=False)[1] > 100


def test_colours_are_matched_and_the_seam_is_closed(app: App) -> None:
    image, mask = scene()
    tinted = (image + torch.tensor([0.06, 0.0, -0.04])).clamp(0, 1)
    seams = [call(app, "SeamFigure", image=torch.where(mask[..., None] > 0, tinted, image), mask=mask)[1]]
    (matched,) = call(app, "ColorMatchMasked", image=tinted, reference=image, mask=mask)
    seams.append(call(app, "SeamFigure", image=torch.where(mask[..., None] > 0, matched, image), mask=mask)[1])
    (fitted,) = call(app, "SeamFit", image=tinted, original=image, mask=mask)
    seams.append(call(app, "SeamFigure", image=fitted, mask=mask)[1])
    own = call(app, "SeamFigure", image=image, mask=mask)[1]
    assert seams[0] > own + 4 and max(seams[1:]) < own + 1
    assert torch.equal(call(app, "ColorMatchMasked", image=tinted, reference=image, mask=torch.ones_like(mask))[0], tinted)


def test_a_mask_is_grown_and_feathered_by_pixels(app: App) -> None:
    _, mask = scene()
    (grown,) = call(app, "MaskEdge", mask=(mask > 0).float(), grow=3.0)
    assert float(grown[0, 30].sum()) == 28 + 6
    (soft,) = call(app, "MaskEdge", mask=mask, feather=4.0)
    assert not bool(soft[mask == 0].any())


def test_the_plugin_loads_neither_torch_nor_scipy() -> None:
    code = "import sys, sfumato_inpaint as p; p.register_nodes(); print({'torch', 'scipy', 'cv2', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "set()"


def painted(app: App, folder: Path, request: GenerateRequest, image: Any, mask: Any = None) -> Any:
    """The picture that answers a request, [H,W,3] float32."""
    for name, pixels in (("inpaint-in.png", image), ("inpaint-mask.png", mask)):
        if pixels is not None:
            PillowImage.fromarray(pixels).save(folder / name)
            app.pictures[name] = folder / name
    graph = app.graph_for(request)
    link = picture_of(graph)
    return np.asarray(app.backend().run(graph, [link.node]).value(link.node, link.slot))[0]


@pytest.mark.slow
@pytest.mark.parametrize("side", [72, 128, 320])
def test_a_request_with_a_mask_changes_nothing_else_at_any_size(app: App, tmp_path: Path, side: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side * 3 // 4, side // 3 :] = 255
    request = GenerateRequest("a red circle", width=side, height=side, steps=3, image="inpaint-in.png", mask="inpaint-mask.png")
    eight = to_8_bits(painted(app, tmp_path, request, image, mask))
    assert eight.shape == image.shape and (eight[mask == 0] == image[mask == 0]).all()
    assert (eight[mask > 0] != image[mask > 0]).any(-1).mean() > 0.5


@pytest.mark.slow
def test_a_picture_that_is_expanded_stays_itself(app: App, tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    border = Borders(right=64, top=8)
    request = GenerateRequest("the sea", width=160, height=72, steps=3, image="inpaint-in.png", strength=1.0, outpaint=border)
    eight = to_8_bits(painted(app, tmp_path, request, image))
    assert eight.shape == (72, 160, 3) and (eight[8:, :96] == image).all()
