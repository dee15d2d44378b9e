"""The user's settings: one tree of dataclasses with types, defaults and words, kept in a TOML file that a person can edit.

The file names every setting; those at their default are commented out. Keys that this version does not know are kept.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sfumato.errors import BadFileError, BadValueError
from sfumato.files import FileSystem, write_atomically
from sfumato.toml_writer import toml_key, toml_line

_MOST_BYTES = 1 << 20


def _setting(default: Any, words: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"words": words, "low": low, "high": high})


@dataclass(frozen=True)
class EngineSettings:
    """Where and how networks are computed."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = _setting("auto", "Where networks run; auto: the best there is.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = _setting("auto", "Numbers of the networks; auto: measured at first use.")
    memory_gb: float = _setting(0.0, "Memory of the device that models may fill, in GB; 0: what is free.", 0)
    tiled_vae: bool = _setting(False, "Always decode in tiles: less memory, a little slower.")


@dataclass(frozen=True)
class ModelSettings:
    """Where models are found."""

    folders: tuple[str, ...] = _setting((), "More places with models: ComfyUI or A1111 installations, or folders with their names.")


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are saved and read."""

    format: Literal["png", "webp", "jpg"] = _setting("png", "Format of pictures whose name does not choose one.")
    lossless: bool = _setting(True, "Whether WebP keeps every pixel exactly.")
    quality: int = _setting(95, "Quality of JPEG, and of WebP that is not lossless.", 1, 100)
    carry: bool = _setting(True, "Whether pictures carry how they were made.")
    most_megapixels: int = _setting(256, "Largest picture that is read, in millions of pixels.", 1, 4096)


@dataclass(frozen=True)
class CacheSettings:
    """Which results of nodes are kept between runs."""

    kind: Literal["classic", "lru", "none"] = _setting("classic", "classic: those of the last run; lru: the last `results`; none.")
    results: int = _setting(64, "How many results the lru cache keeps.", 1, 1_000_000)


@dataclass(frozen=True)
class Settings:
    """All settings. `unknown` holds what the file says beyond them, to be written back."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    pictures: PictureSettings = field(default_factory=PictureSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    unknown: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Setting:
    """One setting as a form or a list shows it; `name` is like `engine.device`."""

    name: str
    type: Any
    default: Any
    value: Any
    words: str


def all_settings(settings: Settings) -> Iterator[Setting]:
    """Every setting with its present value."""
    for section in _sections():
        part = getattr(settings, section.name)
        types = get_type_hints(type(part))
        for each in dataclasses.fields(part):
            words = each.metadata["words"]
            yield Setting(f"{section.name}.{each.name}", types[each.name], each.default, getattr(part, each.name), words)


def with_value(settings: Settings, name: str, value: Any) -> Settings:
    """The settings with one changed. Raises BadValueError for an unknown name or a value that does not fit."""
    section, _, key = name.partition(".")
    if name not in (each.name for each in all_settings(settings)):
        raise BadValueError(f"there is no setting called {name!r}", "", f"Settings: {', '.join(s.name for s in all_settings(settings))}.")
    part = getattr(settings, section)
    try:
        changed = dataclasses.replace(part, **{key: _checked(type(part), key, value)})
    except ValueError as error:
        raise BadValueError(f"{name} {error}") from error
    return dataclasses.replace(settings, **{section: changed})


def load_settings(path: Path) -> Settings:
    """The settings of a file; the defaults if there is none. Raises BadFileError with every fault and its line."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadFileError(f"more than {_MOST_BYTES:,} bytes of settings", str(path))
        text = path.read_bytes().decode("utf-8-sig")
        return parse_settings(text, str(path))
    except FileNotFoundError:
        return Settings()
    except UnicodeDecodeError as error:
        raise BadFileError(f"byte {error.start} is no UTF-8", str(path), "Save the file as UTF-8.") from error
    except OSError as error:
        raise BadFileError(f"the settings cannot be read ({error.strerror})", str(path)) from error


def parse_settings(text: str, where: str = "") -> Settings:
    """The settings of a TOML text. Raises BadFileError with every fault and its line."""
    remedy = "Correct the file, or remove it to start from the defaults."
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFileError(f"this is no TOML: {error}", where, remedy) from error
    parts: dict[str, Any] = {}
    faults: list[str] = []
    unknown = {key: value for key, value in table.items() if key not in {section.name for section in _sections()}}
    for section in _sections():
        values = table.get(section.name, {})
        if not isinstance(values, dict):
            faults.append(f"{_place(text, '', section.name)}{section.name} has to be a table")
            continue
        parts[section.name], rest = _read_part(section.default_factory, section.name, values, text, faults)
        unknown |= {section.name: rest} if rest else {}
    if faults:
        raise BadFileError("; ".join(faults), where, remedy)
    return Settings(**parts, unknown=MappingProxyType(unknown))


def save_settings(path: Path, settings: Settings, *, file_system: FileSystem | None = None) -> None:
    """Write the settings, whole or not at all. Raises SaveError."""
    write_atomically(path, format_settings(settings).encode(), make_parents=True, file_system=file_system)


def format_settings(settings: Settings) -> str:
    """The settings as TOML; those at their default are commented out, each with its words."""
    known = {section.name for section in _sections()}
    lines = [toml_line(key, value) for key, value in settings.unknown.items() if key not in known and not _is_table(value)]
    for section in _sections():
        lines += ["", f"[{section.name}]"]
        for each in all_settings(settings):
            group, _, key = each.name.partition(".")
            if group == section.name:
                off = "# " if each.value == each.default else ""
                lines += [f"# {each.words}{_choices(each.type)}", off + toml_line(key, each.value)]
        lines += [toml_line(key, value) for key, value in settings.unknown.get(section.name, {}).items()]
    for key, value in settings.unknown.items():
        if key not in known and _is_table(value):
            lines += ["", f"[{toml_key(key)}]", *(toml_line(inner, each) for inner, each in value.items())]
    return "\n".join(lines).lstrip("\n") + "\n"


def _sections() -> list[dataclasses.Field[Any]]:
    return [section for section in dataclasses.fields(Settings) if section.name != "unknown"]


def _read_part(make: Any, section: str, values: Mapping[str, Any], text: str, faults: list[str]) -> tuple[Any, dict[str, Any]]:
    known, rest = {}, {}
    names = {each.name for each in dataclasses.fields(make)}
    for key, value in values.items():
        if key not in names:
            rest[key] = value
            continue
        try:
            known[key] = _checked(make, key, value)
        except ValueError as error:
            faults.append(f"{_place(text, section, key)}{section}.{key} {error}")
    return make(**known), rest


def _checked(owner: Any, key: str, value: Any) -> Any:
    """The value as the setting's type; raises ValueError that says what it has to be."""
    wanted = get_type_hints(owner)[key]
    metadata = next(each.metadata for each in dataclasses.fields(owner) if each.name == key)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError(f"is {value!r} and has to be one of {', '.join(get_args(wanted))}")
        return value
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"is {value!r} and has to be a list of texts")
        return tuple(value)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"is {value!r} and has to be {_TYPE_WORDS[wanted]}")
    low, high = metadata["low"], metadata["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ValueError(f"is {value!r} and has to be {_range(low, high)}")
    return value


_TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _range(low: float | None, high: float | None) -> str:
    return f"at least {low}" if high is None else f"from {low} to {high}"


def _choices(wanted: Any) -> str:
    return f" ({', '.join(map(str, get_args(wanted)))})" if get_origin(wanted) is Literal else ""


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


_SECTION_LINE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")


def _place(text: str, section: str, key: str) -> str:
    """`line N: ` of a key, as far as a look at the lines tells (the reader of TOML does not)."""
    here = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := _SECTION_LINE.fullmatch(line):
            here = head[1].strip("\"'")
            if not section and here == key:
                return f"line {number}: "
        name = line.partition("=")[0].strip().strip("\"'")
        if (here == section and name == key) or (section and not here and name == f"{section}.{key}"):
            return f"line {number}: "
    return ""
