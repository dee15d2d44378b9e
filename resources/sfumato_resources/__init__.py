"""Data that ships with Sfumato: the embedded model with its companions, and the configurations of known model families."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parent

_EMBEDDED_FOLDERS = {"loras": "loras", "embeddings": "embeddings", "upscale_models": "upscale"}
_CONTROLNET_PREFIX = "controlnet-"


def embedded_model() -> Path:
    """The folder of the embedded model, in diffusers layout (`model_index.json`, `unet/`, `vae/`, `text_encoder/` ...)."""
    return _ROOT / "embedded"


def embedded_files(kind: str) -> dict[str, Path]:
    """The embedded companions of a kind (`controlnet`, `loras`, `embeddings`, `upscale_models`): name -> file or folder.

    Names of files keep their ending; a ControlNet, which is a folder, is called by what it follows (`canny`).
    """
    if kind == "controlnet":
        found = sorted(embedded_model().glob(f"{_CONTROLNET_PREFIX}*/config.json"))
        return {path.parent.name.removeprefix(_CONTROLNET_PREFIX): path.parent for path in found}
    folder = _EMBEDDED_FOLDERS.get(kind)
    if folder is None:
        return {}
    return {path.name: path for path in sorted((embedded_model() / folder).glob("*.safetensors"))}


def embedded_file(kind: str, name: str) -> Path:
    """One embedded companion by kind and name, with or without its ending. Raises KeyError if it does not ship."""
    files = embedded_files(kind)
    for known, path in files.items():
        if name in (known, known.removesuffix(".safetensors")):
            return path
    raise KeyError(f"no embedded {kind} called {name!r}; there are: {', '.join(files) or 'none'}")


def family_configs(family: str) -> Path:
    """The folder with the component configurations of a model family (`sd1`), in diffusers layout and without weights.

    Raises KeyError for a family that has none.
    """
    folder = _ROOT / "configs" / family
    if not (folder / "model_index.json").is_file():
        raise KeyError(f"no configurations of the model family {family!r} ship")
    return folder
