"""How much memory it takes to load a checkpoint of 2 GB: measured in a process of its own, from the moment before to the peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.bench.figures import Figure, result
from sfumato.bench.kernel import environment
from sfumato.errors import SfumatoError

WORDS = "memory and seconds to load a Stable Diffusion 1.5-shaped checkpoint of 2 GB, random weights"


def run(options: Any) -> dict[str, Any]:
    """Make the file, load all of it elsewhere, and throw it away."""
    from sfumato.bench.original_layout import shapes, write_checkpoint

    with tempfile.TemporaryDirectory(prefix="sfumato-bench-") as folder:
        path = Path(folder) / "models" / "checkpoints" / "random.safetensors"
        path.parent.mkdir(parents=True)
        size = write_checkpoint(path, shapes())
        told = _loaded(path, environment(Path(folder)))
    figures = [
        Figure("size of the file", size / 1e9, "GB"),
        Figure("weights held afterwards", told["weights"] / 1e9, "GB"),
        Figure("peak of memory above what it was before", told["peak"] / 1e9, "GB"),
        Figure("peak / size of the file", told["peak"] / size, "", 1.15),
        Figure("seconds to load, file in the system's cache", told["seconds"], "s"),
    ]
    return result(figures, ["resident memory of the process (VmHWM), libraries imported before; 16-bit weights kept in 16 bits"])


def _loaded(path: Path, env: Mapping[str, str]) -> dict[str, float]:
    arguments = [sys.executable, "-m", "sfumato.bench.loading", str(path)]
    answer = subprocess.run(arguments, env=env, capture_output=True, text=True)
    if answer.returncode:
        raise SfumatoError(f"the process that loads ended with {answer.returncode}", str(path), answer.stderr[-400:])
    told: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return told


def _load(path: Path) -> dict[str, float]:
    """In the other process: bytes and seconds of loading all three networks of the file."""
    import time

    import diffusers.models.unets.unet_2d_condition
    import transformers

    from sfumato.app import App
    from sfumato.models import ModelFile
    from sfumato.progress import Progress
    from sfumato.settings import Settings

    _ = diffusers.AutoencoderKL, transformers.CLIPTextModel, transformers.CLIPTokenizer
    services = App.make(settings=Settings(), cpu=True, precision="bfloat16").services()
    file = ModelFile("checkpoints", path.name, path)
    before = _resident("VmRSS")
    _forget_the_peak()
    start = time.perf_counter()
    model, clip, vae = services.family_of(file).load_checkpoint(file, services, Progress.silent())
    with services.residency.use(model.weights, clip.weights, vae.weights):
        seconds = time.perf_counter() - start
        return {"peak": _resident("VmHWM") - before, "seconds": seconds, "weights": services.residency.resident_bytes()}


def _resident(which: str) -> int:
    """Bytes of memory this process holds (`VmRSS`) or has held at most (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def _forget_the_peak() -> None:
    """Have the system count the peak anew: what importing took before is not what loading takes."""
    handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
    try:
        os.write(handle, b"5")
    finally:
        os.close(handle)


if __name__ == "__main__":
    print(json.dumps(_load(Path(sys.argv[1]))))
