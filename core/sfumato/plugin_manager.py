"""Finds plugins, loads them one at a time, and calls their hooks; a plugin that is broken is listed with its reason, and the rest goes on.

Nobody else touches pluggy: each hook has a method of its name here, with types. What plugins `register_` is asked for once, when they are
loaded. Where two plugins offer the same name, the one loaded first is used: ours come first, then strangers' by name. Hooks with a
single answer ask the plugin loaded last first, so that a stranger may know better than we do.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

from sfumato import hookspecs
from sfumato.errors import CancelledError, PluginError, SfumatoError
from sfumato.graph import Graph
from sfumato.nodes import NodeType
from sfumato.offers import (
    FileFormatOffer,
    InpaintFillOffer,
    LoraFormatOffer,
    ModelFamilyOffer,
    Offer,
    PreprocessorOffer,
    SamplerOffer,
    ScheduleOffer,
    UpscalerOffer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sfumato.backends import Backend
    from sfumato.request import GenerateRequest

GROUP = "sfumato"
"""The entry-point group of the headless half of a plugin."""

DISABLE_VARIABLE = "SFUMATO_DISABLE_PLUGINS"
"""Environment variable with the names of plugins to leave out, separated by commas; `all` leaves out all that are not ours."""

_OWN = "sfumato"

OFFERED: Mapping[str, type] = {
    "register_nodes": NodeType,
    "register_samplers": SamplerOffer,
    "register_schedules": ScheduleOffer,
    "register_preprocessors": PreprocessorOffer,
    "register_lora_formats": LoraFormatOffer,
    "register_upscalers": UpscalerOffer,
    "register_model_families": ModelFamilyOffer,
    "register_inpaint_fills": InpaintFillOffer,
    "register_file_formats": FileFormatOffer,
}
"""What each `register_` hook returns a list of."""

_O = TypeVar("_O", bound=Offer)


@dataclass(frozen=True)
class PluginInfo:
    """What is known about a plugin. `offers` has names by kind ("nodes", "samplers" ...); `error` is one line, `traceback` all of it."""

    name: str
    distribution: str = ""
    version: str = ""
    file: str = ""
    state: Literal["active", "broken", "disabled"] = "active"
    error: str = ""
    traceback: str = ""
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DuplicateOffer:
    """Two plugins offer the same name under `kind`: the first is used."""

    kind: str
    name: str
    used: str
    ignored: str


class PluginManager:
    """The plugins of one program. Filled in the main thread when it starts; its hooks may be called from any thread after that."""

    def __init__(self, blocked: Collection[str] = (), environment: Mapping[str, str] | None = None) -> None:
        said = (os.environ if environment is None else environment).get(DISABLE_VARIABLE, "")
        self._blocked = {*blocked, *(name.strip() for name in said.split(",") if name.strip())}
        self._pluggy = pluggy.PluginManager("sfumato")
        self._pluggy.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._clashes: list[PluginInfo] = []
        self._points: dict[str, str] = {}
        self._offers: dict[str, dict[str, list[Any]]] = {}

    @property
    def plugins(self) -> list[PluginInfo]:
        """Every plugin that was found, in the order of loading: active, broken and disabled ones."""
        return [*self._infos.values(), *self._clashes]

    @property
    def duplicates(self) -> list[DuplicateOffer]:
        """Offers that are not used because a plugin loaded earlier offers the same name."""
        found: list[DuplicateOffer] = []
        for hook in OFFERED:
            used: dict[str, str] = {}
            for plugin, offers in self._offers.items():
                for offer in offers[hook]:
                    first = used.setdefault(offer.name, plugin)
                    if first != plugin:
                        found.append(DuplicateOffer(_kind(hook), offer.name, first, plugin))
        return found

    # --- Loading -------------------------------------------------------------------------------------------------------

    def load(self, points: Iterable[EntryPoint] | None = None) -> list[PluginInfo]:
        """Load the installed plugins (or those of `points`), and return what became of each."""
        found = entry_points(group=GROUP) if points is None else points
        for point in sorted(found, key=lambda point: (not _is_own(point), point.name)):
            self._load(point)
        return self.plugins

    def _load(self, point: EntryPoint) -> None:
        if self._points.setdefault(point.name, point.value) == point.value and point.name in self._infos:
            return  # the same metadata seen twice, as happens with two copies of it on the path
        info = PluginInfo(point.name, *_distribution(point))
        if point.name in self._infos:
            error = PluginError(f"the name {point.name!r} is taken by a plugin loaded before", point.value)
            self._clashes.append(_broken(info, error))
        elif point.name in self._blocked or ("all" in self._blocked and not _is_own(point)):
            self._infos[point.name] = PluginInfo(point.name, info.distribution, info.version, _file_of(None, point.value), "disabled")
        else:
            try:
                plugin = point.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's module may raise anything at import
                self._infos[point.name] = _broken(info, error, _file_of(None, point.value))
            else:
                self.add(plugin, point.name, info.distribution, info.version)

    def add(self, plugin: Any, name: str, distribution: str = "", version: str = "") -> PluginInfo:
        """Take in `plugin`: a module or object with `@hookimpl` functions. If that fails it is listed as broken, and not called."""
        info = PluginInfo(name, distribution, version, _file_of(plugin))
        try:
            if name in self._infos:
                raise PluginError(f"the name {name!r} is taken by a plugin loaded before")
            self._pluggy.register(plugin, name)
            self._refuse_unknown_hooks(plugin)
            offers = {hook: self._offers_of(plugin, hook, kind) for hook, kind in OFFERED.items()}
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's hook may raise anything; only its plugin is broken then
            if name in self._infos:
                self._clashes.append(_broken(info, error, info.file))
                return self._clashes[-1]
            if self._pluggy.has_plugin(name):
                self._pluggy.unregister(name=name)
            self._infos[name] = _broken(info, error, info.file)
        else:
            names = {_kind(hook): tuple(offer.name for offer in each) for hook, each in offers.items() if each}
            self._offers[name] = offers
            self._infos[name] = PluginInfo(name, distribution, version, info.file, offers=names)
        return self._infos[name]

    def _refuse_unknown_hooks(self, plugin: Any) -> None:
        known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "sfumato_spec")]
        for caller in self._pluggy.get_hookcallers(plugin) or ():
            impls = [impl for impl in caller.get_hookimpls() if impl.plugin is plugin and not impl.optionalhook]
            if impls and not caller.has_spec():
                near = difflib.get_close_matches(caller.name, known, 1)
                remedy = f"Did you mean {near[0]}?" if near else "Mark it with hookimpl(optionalhook=True) if that is meant."
                raise PluginError(f"there is no hook {caller.name!r}", remedy=remedy)

    def _offers_of(self, plugin: Any, hook: str, kind: type) -> list[Any]:
        others = [other for other in self._pluggy.get_plugins() if other is not plugin]
        answers = self._pluggy.subset_hook_caller(hook, others)()
        for answer in answers:
            if not isinstance(answer, (list, tuple)) or not all(isinstance(offer, kind) for offer in answer):
                raise PluginError(f"{hook} returned something else than a list of {kind.__name__}")
        return [offer for answer in answers for offer in answer]

    # --- What there is -------------------------------------------------------------------------------------------------

    def register_nodes(self) -> list[NodeType]:
        """All node types, duplicates included: the catalogue decides between them and tells."""
        return [node_type for types in self.nodes_by_plugin().values() for node_type in types]

    def nodes_by_plugin(self) -> dict[str, list[NodeType]]:
        """The node types of each plugin, in the order of loading."""
        return {plugin: list(offers["register_nodes"]) for plugin, offers in self._offers.items() if offers["register_nodes"]}

    def register_samplers(self) -> list[SamplerOffer]:
        """All samplers, each name once."""
        return self._offered("register_samplers", SamplerOffer)

    def register_schedules(self) -> list[ScheduleOffer]:
        """All schedules, each name once."""
        return self._offered("register_schedules", ScheduleOffer)

    def register_preprocessors(self) -> list[PreprocessorOffer]:
        """All preprocessors, each name once."""
        return self._offered("register_preprocessors", PreprocessorOffer)

    def register_lora_formats(self) -> list[LoraFormatOffer]:
        """All LoRA formats, each name once, in the order in which they are tried."""
        return self._offered("register_lora_formats", LoraFormatOffer)

    def register_upscalers(self) -> list[UpscalerOffer]:
        """All readers of upscaler files, each name once, in the order in which they are tried."""
        return self._offered("register_upscalers", UpscalerOffer)

    def register_model_families(self) -> list[ModelFamilyOffer]:
        """All model families, each name once, in the order in which they are tried."""
        return self._offered("register_model_families", ModelFamilyOffer)

    def register_inpaint_fills(self) -> list[InpaintFillOffer]:
        """All prefills, each name once."""
        return self._offered("register_inpaint_fills", InpaintFillOffer)

    def register_file_formats(self) -> list[FileFormatOffer]:
        """All file formats, each name once."""
        return self._offered("register_file_formats", FileFormatOffer)

    def _offered(self, hook: str, kind: type[_O]) -> list[_O]:
        used: dict[str, _O] = {}
        for offers in self._offers.values():
            for offer in offers[hook]:
                if isinstance(offer, kind):
                    used.setdefault(offer.name, offer)
        return list(used.values())

    # --- From a request to a graph, and where it runs --------------------------------------------------------------------

    def recipe_for(self, request: GenerateRequest) -> Graph | None:
        """The graph that a plugin makes of `request`; None if no plugin knows better than the built-in recipe."""
        graph = self._call("recipe_for", request=request)
        if graph is not None and not isinstance(graph, Graph):
            raise PluginError(f"recipe_for returned {type(graph).__name__}, which is no Graph")
        return graph

    def backend_for(self, name: str, app: Any) -> Backend | None:
        """The backend called `name`; None if no plugin has it."""
        backend: Backend | None = self._call("backend_for", name=name, app=app)
        return backend

    def serve(self, app: Any, options: Mapping[str, Any]) -> int | None:
        """Serve until stopped, and the exit code; None if no plugin serves anything."""
        code: int | None = self._call("serve", app=app, options=options)
        return code

    def open_window(self, app: Any, file: Path | None) -> int | None:
        """Open the window until it is closed, and the exit code; None if no plugin has one."""
        code: int | None = self._call("open_window", app=app, file=file)
        return code

    # --- While a graph runs --------------------------------------------------------------------------------------------

    def before_node(self, node_id: str, node_type: str, inputs: Mapping[str, Any]) -> None:
        """A node is about to run."""
        self._call("before_node", node_id=node_id, node_type=node_type, inputs=inputs)

    def after_node(self, node_id: str, node_type: str, outputs: tuple[Any, ...]) -> None:
        """A node has run."""
        self._call("after_node", node_id=node_id, node_type=node_type, outputs=outputs)

    def node_failed(self, node_id: str, node_type: str, error: SfumatoError) -> None:
        """A node has failed."""
        self._call("node_failed", node_id=node_id, node_type=node_type, error=error)

    def before_step(self, step: int, total: int, sigma: float, x: Any) -> None:
        """A sampling step is about to begin."""
        self._call("before_step", step=step, total=total, sigma=sigma, x=x)

    def after_step(self, step: int, total: int, sigma: float, x: Any, denoised: Any) -> None:
        """A sampling step has ended."""
        self._call("after_step", step=step, total=total, sigma=sigma, x=x, denoised=denoised)

    def _call(self, hook: str, **arguments: Any) -> Any:
        """Call a hook. What one of the plugins raises says whose it is; errors that were made for users keep their class."""
        caller = getattr(self._pluggy.hook, hook)
        if not caller.get_hookimpls():
            return None
        try:
            return caller(**arguments)
        except CancelledError:
            raise
        except SfumatoError as error:
            error.where = ", ".join(part for part in (self._whose(hook, error), error.where) if part)
            raise
        except Exception as error:
            raise PluginError(f"{hook} failed: {type(error).__name__}: {error}", self._whose(hook, error)) from error

    def _whose(self, hook: str, error: BaseException) -> str:
        """The plugin whose function is in the traceback of `error`."""
        names = {impl.function.__code__: impl.plugin_name for impl in getattr(self._pluggy.hook, hook).get_hookimpls()}
        frames = traceback.walk_tb(error.__traceback__)
        return next((f"plugin {names[frame.f_code]}" for frame, _ in frames if frame.f_code in names), "a plugin")


def _kind(hook: str) -> str:
    return hook.removeprefix("register_")


def _is_own(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == _OWN


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("", "")


def _broken(info: PluginInfo, error: BaseException, file: str = "") -> PluginInfo:
    words = str(error) if isinstance(error, SfumatoError) else f"{type(error).__name__}: {error}"
    full = "".join(traceback.format_exception(error))
    return PluginInfo(info.name, info.distribution, info.version, file, "broken", words, full)


def _file_of(plugin: Any, target: str = "") -> str:
    """The file a plugin lives in; for one that cannot be imported, where its package would be."""
    if plugin is None:
        try:
            spec = importlib.util.find_spec(target.partition(":")[0].partition(".")[0])
        except (ImportError, ValueError):
            return ""
        return (spec.origin or "") if spec else ""
    module = importlib.import_module(type(plugin).__module__) if not hasattr(plugin, "__file__") else plugin
    return getattr(module, "__file__", None) or ""
