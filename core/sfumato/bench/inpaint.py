"""Inpainting and outpainting: what is protected, how well colours and seams fit, and what the embedded model paints into a hole."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfumato.app import App
from sfumato.bench.figures import Figure, result
from sfumato.bench.inpaint_scenes import WORLD, Case, gradient, moved, put_cases, random_selection
from sfumato.bench.kernel import bench_app
from sfumato.graph import GraphBuilder
from sfumato.images import to_8_bits
from sfumato.lazy import lazy_module
from sfumato.nodes import MISSING, Result
from sfumato.recipes import picture_of
from sfumato.request import Borders, GenerateRequest

if TYPE_CHECKING:
    import torch
    from PIL import Image as pillow
else:
    torch = lazy_module("torch")
    pillow = lazy_module("PIL.Image")

WORDS = "pixels kept, colours matched, seams closed, and what is found in the hole"
SELECTIONS, PICTURES, STEPS_RIGHT = 500, 40, 4
_PARTS: Mapping[str, Mapping[str, float]] = {
    "every part on": {},
    "without colour match": {"colour": 0.0},
    "without seam fit": {"seam": 0.0},
    "without soft edge": {"soft": 0.0},
    "every part off": {"colour": 0.0, "seam": 0.0, "soft": 0.0},
}
Pixels = NDArray[np.float32]


def run(options: Any) -> dict[str, Any]:
    """All parts, the quick ones first. `options.cases`: how often the model is asked to paint something into a hole."""
    with bench_app() as app, TemporaryDirectory(prefix="sfumato-bench-") as folder:
        bench = _Bench(app, Path(folder))
        cases = int(getattr(options, "cases", None) or 20)
        figures = [bench.protected(), *bench.colours(), bench.large(), *bench.seams(), *bench.put(cases), *bench.expanded()]
        notes = [f"{SELECTIONS} selections, {PICTURES} pictures, {cases} cases (100 are meant), {len(WORLD)} scenes expanded"]
    return result(figures, notes)


class _Bench:
    """The nodes of a kernel, called by name, and requests run through it."""

    def __init__(self, app: App, folder: Path) -> None:
        self._app, self._folder, self._backend = app, folder, app.backend()

    def _call(self, name: str, **inputs: Any) -> tuple[Any, ...]:
        """The outputs of a node, what is not given at its default."""
        node_type = self._app.catalogue.get(name)
        if node_type is None:
            raise LookupError(name)
        usual = {each.name: each.default for each in node_type.inputs if each.default is not MISSING}
        context: Any = SimpleNamespace(services=self._app.services())
        answer = node_type.make().run(context, {**usual, **inputs})
        return answer.values if isinstance(answer, Result) else tuple(answer)

    def protected(self) -> Figure:
        """Crop, paint at random, stitch with a soft edge: bytes that changed outside of random selections."""
        rng, changed = np.random.default_rng(0), 0
        for number in range(SELECTIONS):
            mask = random_selection(rng, number)
            image = torch.from_numpy(rng.random((1, *mask.shape, 3), np.float32))
            crop, _, stitch = self._call("InpaintCrop", image=image, mask=torch.from_numpy(mask)[None], resolution=64)
            painted = torch.from_numpy(rng.random(tuple(crop.shape), np.float32))
            (after,) = self._call("InpaintStitch", stitch=stitch, image=painted, feather=float(rng.choice([0, 3, 12])))
            differs = to_8_bits(after[0].numpy()) != to_8_bits(image[0].numpy())
            changed += int(differs[mask == 0].sum())
        return Figure("bytes changed outside of 500 random selections", changed, "", 0)

    def colours(self) -> Iterator[Figure]:
        """Known shifts in a and b, with 20, 50 and 80 % of the pixels kept."""
        picture, residuals, contrasts = gradient(3), [], []
        for kept in (0.2, 0.5, 0.8):
            mask = np.zeros(picture.shape[:2], np.float32)
            mask[: round(len(mask) * (1 - kept))] = 1
            for shift in ((0, 5, 0), (0, -5, 0), (0, 0, 5), (0, 0, -5)):
                reference, shifted = picture.copy(), moved(picture, shift)
                reference[mask > 0] = 0
                (after,) = self._call("ColorMatchMasked", image=_batch(shifted), reference=_batch(reference), mask=_batch(mask))
                true, found = _lab(picture), _lab(after[0].numpy())
                residuals.append(float(np.abs((found - true).reshape(-1, 3).mean(0)).max()))
                contrasts.extend(found[..., 1:].reshape(-1, 2).std(0) / true[..., 1:].reshape(-1, 2).std(0))
        yield Figure("colour match: largest residual of +-5", max(residuals), "Lab", 0.3)
        yield Figure("colour match: largest change of chroma contrast", float(np.abs(np.array(contrasts) - 1).max()), "", 0.02)

    def large(self) -> Figure:
        """The same selection of 128x128 in documents of two sizes: what the crop takes besides the document."""
        peaks = []
        for side in (1024, 8192):
            image, mask = torch.full((1, 1, 1, 1), 0.5).expand(1, side, side, 3), torch.zeros(1, side, side)
            mask[:, 400:528, 400:528] = 1
            tracemalloc.start()
            self._call("InpaintCrop", image=image, mask=mask, resolution=128)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return Figure("memory of a crop, in 8192x8192 over 1024x1024", peaks[1] / peaks[0], "", 1.3)

    def seams(self) -> Iterator[Figure]:
        """Pictures with a known continuation that went through the autoencoder and were tinted: the seam above the picture's own."""
        rng = np.random.default_rng(1)
        above: dict[str, list[float]] = {name: [] for name in _PARTS}
        for number in range(PICTURES):
            picture = gradient(number) if number % 2 else Case(random.Random(number)).picture(number)
            mask = np.zeros(picture.shape[:2], np.float32)
            y, x, height, width = (int(rng.integers(low, high)) for low, high in ((16, 40), (16, 40), (40, 72), (40, 72)))
            mask[y : y + height, x : x + width] = 1
            shown = moved(self._through_vae(picture), (rng.uniform(-3, 3), rng.uniform(-4, 4), rng.uniform(-4, 4)), 4.0)
            own = self._seam(picture, mask)
            for name, off in _PARTS.items():
                above[name].append(self._seam(self._laid_in(picture, shown, mask, **off), mask) - own)
        for name, values in above.items():
            target = 1.0 if name == "every part on" else None
            yield Figure(f"seam above the original's, {name}", float(np.mean(values)), "dE", target)

    def _laid_in(self, picture: Pixels, shown: Pixels, mask: Pixels, colour: float = 1.0, seam: float = 1.0, soft: float = 4.0) -> Pixels:
        original, hole = _batch(picture), _batch(mask)
        (image,) = self._call("ColorMatchMasked", image=_batch(shown), reference=original, mask=hole, strength=colour)
        (image,) = self._call("SeamFit", image=image, original=original, mask=hole, strength=seam)
        after: Pixels = self._call("ProtectedComposite", original=original, image=image, mask=hole, feather=soft)[0][0].numpy()
        return after

    def _seam(self, picture: Pixels, mask: Pixels) -> float:
        return float(self._call("SeamFigure", image=_batch(picture), mask=_batch(mask))[1])

    def _through_vae(self, picture: Pixels) -> Pixels:
        build = GraphBuilder()
        vae = build.node("CheckpointLoaderSimple", ckpt_name="embedded").out(2)
        pixels = build.node("LoadImage", image=self._name(picture)).out()
        latent = build.node("VAEEncode", pixels=pixels, vae=vae).out()
        link = build.node("VAEDecode", samples=latent, vae=vae).out()
        decoded: Pixels = np.asarray(self._backend.run(build.graph(), [link.node]).value(link.node), np.float32)[0]
        return decoded

    def _name(self, picture: Pixels) -> str:
        name = f"{len(self._app.pictures)}.png"
        pillow.fromarray(to_8_bits(picture)).save(self._folder / name)
        self._app.pictures[name] = self._folder / name
        return name

    def _painted(self, request: GenerateRequest) -> Pixels:
        graph = self._app.graph_for(request)
        link = picture_of(graph)
        painted: Pixels = np.asarray(self._backend.run(graph, [link.node]).value(link.node, link.slot), np.float32)[0]
        return painted

    def put(self, count: int) -> Iterator[Figure]:
        """Put a <colour> <shape> here, in pictures that hold something already."""
        found, kept, seconds = [], [], []
        for number, case in enumerate(put_cases(count)):
            before = case.picture(number)
            image, mask = self._name(before), self._name(case.mask())
            start = time.perf_counter()
            request = GenerateRequest(case.words, width=128, height=128, cfg=6.0, strength=1.0, seed=number, image=image, mask=mask)
            after = self._painted(request)
            seconds.append(time.perf_counter() - start)
            found.append(case.is_found(after))
            kept.append(bool((to_8_bits(after) == to_8_bits(before))[case.mask() == 0].all()))
        yield Figure("put a <colour> <shape> here: found in the hole", 100 * float(np.mean(found)), "%", 85, at_least=True)
        yield Figure("put a <colour> <shape> here: the rest unchanged", 100 * float(np.mean(kept)), "%", 100, at_least=True)
        yield Figure("put a <colour> <shape> here: seconds a case", float(np.median(seconds)), "s")

    def expanded(self) -> Iterator[Figure]:
        """Scenes expanded to the right step by step: what ground the end shows, and how visible the joints are."""
        right, joints = [], []
        for number, (ground, words) in enumerate(WORLD.items()):
            picture = Case(random.Random(number), ground).picture(number)
            for step in range(STEPS_RIGHT):
                width = picture.shape[1]
                image, border = self._name(picture), Borders(right=64)
                request = GenerateRequest(
                    words, width=width + 64, height=128, cfg=6.0, strength=1.0, seed=step, image=image, outpaint=border
                )
                picture = self._painted(request)
                joints.append(self._joint(picture, width))
            right.append(Case.ground_at_the_end(picture) == ground)
        yield Figure(f"expanded {STEPS_RIGHT} times: the end shows the same ground", 100 * float(np.mean(right)), "%", 100, at_least=True)
        yield Figure("expanded: joint above its surroundings", float(np.mean(joints)), "dE", 1.0)

    def _joint(self, picture: Pixels, place: int) -> float:
        """The seam at a column, above the mean of those 6 pixels before and after it."""
        seams = []
        for column in (place, place - 6, place + 6):
            mask = np.zeros(picture.shape[:2], np.float32)
            mask[:, column:] = 1
            seams.append(self._seam(picture, mask))
        return seams[0] - (seams[1] + seams[2]) / 2


def _batch(pixels: Pixels) -> Any:
    return torch.from_numpy(np.ascontiguousarray(pixels))[None]


def _lab(pixels: Pixels) -> Pixels:
    """The world's own conversion, not the one that the nodes use."""
    from sfumato_resources.world.colours import cielab

    return cielab(pixels * 255)
