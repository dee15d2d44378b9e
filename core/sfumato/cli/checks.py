"""The checks of `sfumato doctor`, one function each; none of them raises, whatever is broken."""

from __future__ import annotations

import base64
import hashlib
import importlib
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sfumato
import sfumato_resources
from sfumato.app import App
from sfumato.bounded_json import JsonFault, read_json
from sfumato.errors import SfumatoError
from sfumato.files import check_writable
from sfumato.lazy import lazy_module
from sfumato.models.hashing import weight_files
from sfumato.models.safetensors_file import read_header

if TYPE_CHECKING:
    import torch

    from sfumato.engine import devices, dtypes
else:
    torch = lazy_module("torch")
    devices = lazy_module("sfumato.engine.devices")
    dtypes = lazy_module("sfumato.engine.dtypes")

_LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors", "spandrel", "numpy", "pillow")
_SCARCE = 5_000_000_000
"""Free bytes below which a folder is pointed out: less than one model."""

transformers = lazy_module("transformers")


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found; `remedy` if something is wrong."""

    name: str
    ok: bool
    words: str
    remedy: str = ""


def versions() -> dict[str, str]:
    """Of Sfumato, Python and the libraries that matter."""
    found = {"sfumato": sfumato.__version__, "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})"}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine(app: App) -> dict[str, Any]:
    """Device, memory and number format, as far as torch can be imported."""
    try:
        facts = app.machine()
        device = app.services().residency.device
        main = devices.main_memory()
    except (SfumatoError, ImportError, OSError, RuntimeError) as error:
        return {"device": f"none: {error}"}
    facts |= {"main_memory": main, "memory_for_models": device.budget}
    if device.device.type == "cuda":
        facts["free_device_memory"], facts["device_memory"] = torch.cuda.mem_get_info(device.device)
    path = app.folders.cache / "cpu-dtype.json"
    chosen = dtypes.compute_dtype(device.device, dtypes.SMALL_NETWORK, app.settings.engine.precision, path)
    facts["large_networks"] = str(chosen).removeprefix("torch.")
    return facts | ({"bfloat16_gain": round(dtypes.cpu_gain(path), 2)} if device.is_cpu else {})


def in_words(name: str, value: Any) -> str:
    """A fact about the machine as a person reads it."""
    if name == "bfloat16_gain":
        return f"{value} times the speed of float32 on this processor"
    return size(value) if "memory" in name else str(value)


def all_checks(app: App, settings_fault: SfumatoError | None) -> Iterator[Check]:
    """Every check, in the order of what to repair first."""
    path = app.folders.settings_file
    words = str(path) if path.exists() else f"{path} is not there: all settings are at their defaults"
    yield Check(
        "settings", not settings_fault, settings_fault.what if settings_fault else words, settings_fault.remedy if settings_fault else ""
    )
    yield _engine(app)
    for library in ("torchvision", "diffusers", "transformers", "spandrel"):
        yield _imports(library)
    yield from _folders(app)
    yield from _plugins(app)
    yield _guarded("embedded model", _embedded)
    yield _guarded("tokenizers", _tokenizers)


def _engine(app: App) -> Check:
    def look() -> str:
        x = torch.ones(8, 8, device=app.services().device)
        return f"{app.services().device} computes" if float((x @ x).sum()) == 512.0 else ""

    check = _guarded("engine", look)
    return check if check.words else Check("engine", False, "the device computes wrong numbers", "Use --cpu, and look at its driver.")


def _imports(library: str) -> Check:
    def look() -> str:
        importlib.import_module(library)
        return "can be imported"

    return _guarded(library, look, f"Install it again: pip install --force-reinstall {library}")


def _folders(app: App) -> Iterator[Check]:
    for name in ("models", "output", "input", "cache"):
        path: Path = getattr(app.folders, name)
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        try:
            check_writable(there / "picture.png")
        except SfumatoError as error:
            yield Check(f"{name} folder", False, f"{path}: {error.what}", error.remedy)
            continue
        free = shutil.disk_usage(there).free
        later = "" if path.exists() else ", made when it is needed"
        words = f"{path}: {size(free)} free{later}"
        is_enough = free >= _SCARCE or name != "models"
        yield Check(f"{name} folder", is_enough, words, "" if is_enough else "A model may not fit any more: free some space.")
    for root in app.settings.models.folders:
        is_there = Path(root).expanduser().is_dir()
        words = root if is_there else f"{root}: no such folder"
        yield Check("more models", is_there, words, "" if is_there else "Correct `folders` under [models] in the settings.")


def _plugins(app: App) -> Iterator[Check]:
    states = [info.state for info in app.plugins.plugins]
    yield Check("plugins", True, f"{states.count('active')} active, {states.count('disabled')} disabled")
    for info in app.plugins.plugins:
        if info.state == "broken":
            yield Check(f"plugin {info.name}", False, info.error, "`sfumato plugins list --traceback` tells more. Update or remove it.")
    for node_type, name, source in app.catalogue.unresolved():
        yield Check(f"node {node_type}", False, f"nobody gives the choices {source!r} of its input {name!r}", "A plugin is missing.")


def _embedded() -> str:
    """Every weight file has a sound header, every JSON file can be read, and what a wheel recorded of them is still true."""
    root = sfumato_resources.embedded_model()
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    weight_files(root)
    for path in files:
        if path.suffix == ".safetensors":
            read_header(path)
        elif path.suffix == ".json":
            read_json(path.read_bytes())
    changed = [name for name, good in _recorded(root).items() if not good]
    if changed:
        raise ValueError(f"{', '.join(changed)} is not as it was installed")
    return f"{len(files)} files, {size(sum(path.stat().st_size for path in files))}"


def _recorded(root: Path) -> dict[str, bool]:
    """Name -> whether the bytes are those that the installer recorded; empty for an editable installation, which records nothing."""
    found = {}
    for entry in metadata.distribution("sfumato").files or ():
        path = Path(str(entry.locate()))
        if entry.hash is not None and entry.hash.mode == "sha256" and path.is_relative_to(root):
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            found[path.name] = digest == entry.hash.value
    return found


def _tokenizers() -> str:
    words = []
    for name, folder in (("embedded", sfumato_resources.embedded_model()), ("sd1", sfumato_resources.family_configs("sd1"))):
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        tokens = tokenizer("a red circle")["input_ids"]
        if len(tokens) < 3 or len(set(tokens)) < 3:
            raise ValueError(f"the tokenizer of {name} tells no words apart")
        words.append(name)
    return ", ".join(words)


def _guarded(name: str, look: Callable[[], str], remedy: str = "Install Sfumato again.") -> Check:
    try:
        return Check(name, True, look())
    except SfumatoError as error:
        return Check(name, False, str(error), remedy)
    except JsonFault as error:
        return Check(name, False, str(error), remedy)
    except Exception as error:  # noqa: BLE001  a broken installation fails in any way, and this is the place to say so
        return Check(name, False, f"{type(error).__name__}: {error}", remedy)


def size(count: int) -> str:
    """Bytes in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
