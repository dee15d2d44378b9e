"""The kernel: plugins, catalogue, models, folders and settings put together, without globals and without torch.

`App.make` is quick: it imports the plugins' first modules and nothing heavy. The engine is built when a graph first runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.backends import Backend
from sfumato.backends.child import ChildBackend, EngineOptions
from sfumato.backends.in_process import InProcessBackend
from sfumato.caching import Cache, ClassicCache, LruCache, NoCache
from sfumato.catalogue import Catalogue
from sfumato.errors import BadValueError, WorkflowError
from sfumato.graph import Graph
from sfumato.lazy import lazy_module
from sfumato.models import ModelFile, ModelLibrary
from sfumato.models.hashing import ModelHashes
from sfumato.models.layouts import folders_of_installation
from sfumato.models.recognise import recognise_file
from sfumato.models.recognised import Recognised
from sfumato.paths import Folders
from sfumato.plugin_manager import PluginManager
from sfumato.progress import Progress
from sfumato.recipes import graph_for
from sfumato.request import GenerateRequest
from sfumato.run_folders import RunFolders
from sfumato.runner import Runner
from sfumato.settings import CacheSettings, Settings, load_settings, with_value
from sfumato.workflow_formats import WorkflowFormat, read_workflow, workflow_formats

if TYPE_CHECKING:
    from sfumato.engine import devices
    from sfumato.engine import services as engine
else:
    devices = lazy_module("sfumato.engine.devices")
    engine = lazy_module("sfumato.engine.services")

_GB = 1_000_000_000
_OWN_BACKENDS = f"{InProcessBackend.name!r}, {ChildBackend.name!r}"


@dataclass
class App:
    """One kernel. Everything that needs a part of it is handed that part."""

    folders: Folders
    settings: Settings
    plugins: PluginManager
    catalogue: Catalogue
    library: ModelLibrary
    pictures: dict[str, Path] = field(default_factory=dict)
    """Pictures the user named himself, by the name graphs use for them."""
    extra_models: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    blocked: Sequence[str] = ()
    """Both as they were handed to `make`, for a kernel of the same kind in another process."""
    _services: Any = None

    @classmethod
    def make(
        cls,
        folders: Folders | None = None,
        *,
        settings: Settings | None = None,
        cpu: bool = False,
        precision: str | None = None,
        extra_models: Mapping[str, Sequence[Path]] | None = None,
        blocked: Sequence[str] = (),
    ) -> App:
        """Load the plugins and put everything together.

        `settings` are those of the user's file unless given; `cpu` and `precision` count more than they do. Raises BadFileError for a
        faulty file of settings.
        """
        folders = folders or Folders.of_user()
        settings = load_settings(folders.settings_file) if settings is None else settings
        settings = with_value(settings, "engine.device", "cpu") if cpu else settings
        settings = with_value(settings, "engine.precision", precision) if precision else settings
        plugins = PluginManager(blocked)
        plugins.load()
        library = ModelLibrary(folders, _more_models(settings, extra_models or {}))
        app = cls(folders, settings, plugins, Catalogue(), library, extra_models=extra_models or {}, blocked=blocked)
        for name, types in plugins.nodes_by_plugin().items():
            app.catalogue.add(types, name)
        for source, resolve in app._sources().items():
            app.catalogue.add_source(source, resolve)
        return app

    def services(self) -> Any:
        """The engine (`sfumato.engine.services.Services`), built at the first call: this is where torch is imported."""
        if self._services is None:
            wanted = self.settings.engine
            self._services = engine.Services.make(
                self.library,
                self.registered(),
                device=devices.named_device(wanted.device, round(wanted.memory_gb * _GB)),
                precision=wanted.precision,
                memory=self.folders.cache / "cpu-dtype.json",
                tiled_vae=wanted.tiled_vae,
            )
        return self._services

    def machine(self) -> dict[str, Any]:
        """The device, its hardware, threads and number format: what a picture depends on besides versions and models."""
        wanted = self.settings.engine
        return {**devices.facts(self.services().device), "precision": wanted.precision, "tiled_vae": wanted.tiled_vae}

    def registered(self) -> Any:
        """What plugins offer to the engine."""
        hooks = self.plugins
        return engine.Registered(
            samplers={offer.name: offer for offer in hooks.register_samplers()},
            schedules={offer.name: offer for offer in hooks.register_schedules()},
            preprocessors={offer.name: offer for offer in hooks.register_preprocessors()},
            lora_formats=hooks.register_lora_formats(),
            upscalers=hooks.register_upscalers(),
            families=hooks.register_model_families(),
            fills={offer.name: offer for offer in hooks.register_inpaint_fills()},
            before_step=hooks.before_step,
            after_step=hooks.after_step,
        )

    def recognise(self, file: ModelFile) -> Recognised:
        """What a model file is, from its header alone."""
        offers = self.plugins.register_model_families()
        return recognise_file(file.path, [offer.load_recogniser() for offer in offers if offer.recognise])

    def hash_of(self, file: ModelFile, progress: Progress | None = None) -> str:
        """sha256 of a model's weights; worked out once for each state of the file."""
        return ModelHashes(self.folders.cache).sha256(file.path, progress)

    def backend(self, name: str = "in-process", *, output: Path | None = None, cache: Cache | None = None) -> Backend:
        """Where graphs run: "in-process", "child" (a process of its own, to be closed), or what a plugin has.

        `output` is where nodes save instead of the user's own folder. `cache` is for runs in this process; others have their own.
        """
        if name == InProcessBackend.name:
            runner = Runner(self.catalogue, _cache_for(self.settings.cache) if cache is None else cache, self.plugins)
            return InProcessBackend(runner, self.services, self.run_folders(output))
        if name == ChildBackend.name:
            return ChildBackend(self._engine_options(output))
        found = self.plugins.backend_for(name, self)
        if found is None:
            raise BadValueError(f"there is no backend {name!r}", "backend", f"There is {_OWN_BACKENDS}, and what plugins bring.")
        return found

    def _engine_options(self, output: Path | None) -> EngineOptions:
        """What an engine in another process is made of, so that it is as this one would be."""
        return EngineOptions(
            self.folders,
            self.settings,
            output,
            self.extra_models,
            tuple(self.blocked),
            pictures=lambda: self.pictures,
            models=lambda: self.library.typed,
        )

    def run_folders(self, output: Path | None = None) -> RunFolders:
        """The folders that nodes see."""
        return RunFolders(self.folders.input, output or self.folders.output, self.folders.temp, self.pictures, self.settings.pictures)

    def graph_for(self, request: GenerateRequest) -> Graph:
        """The graph that answers a request: a plugin's, or the built-in one."""
        return self.plugins.recipe_for(request) or graph_for(request)

    def workflow_formats(self) -> list[WorkflowFormat]:
        """The formats of workflows that plugins know, besides the API format."""
        return workflow_formats(self.plugins.register_file_formats())

    def read_workflow(self, source: str | bytes | Any, where: str = "") -> Graph:
        """The graph of a workflow as text, bytes or parsed JSON, in any format. Raises WorkflowError with every fault."""
        return read_workflow(source, self.catalogue, self.workflow_formats(), where=where)

    def editor_workflow(self, graph: Graph, known: Any = None) -> Any:
        """`graph` as ComfyUI's editor writes it: `known`, where that is such a workflow, with the constants of `graph`; else a new one.

        None if no plugin knows such a format.
        """
        for each in self.workflow_formats():
            if known is not None and each.is_mine(known):
                try:
                    return each.updated(known, graph, self.catalogue)
                except WorkflowError:  # a faulty one from a stranger's picture: the graph is what counts
                    break
        return next((each.write(graph, self.catalogue) for each in self.workflow_formats()), None)

    def _sources(self) -> dict[str, Callable[[str], Sequence[str]]]:
        """Where the choices of nodes come from."""
        hooks = self.plugins
        return {
            "models": lambda source: self.library.names(source.partition(":")[2]),
            "samplers": lambda source: [offer.name for offer in hooks.register_samplers()],
            "schedules": lambda source: [offer.name for offer in hooks.register_schedules()],
            "preprocessors": lambda source: [offer.name for offer in hooks.register_preprocessors()],
            "fills": lambda source: [offer.name for offer in hooks.register_inpaint_fills()],
            "images": lambda source: self.run_folders().names(),
        }


def _more_models(settings: Settings, extra: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """Kind -> folders: those of installations that the settings name, then `extra`."""
    found: dict[str, list[Path]] = {}
    for folders in (*(folders_of_installation(Path(root).expanduser()) for root in settings.models.folders), extra):
        for kind, paths in folders.items():
            found.setdefault(kind, []).extend(paths)
    return found


def _cache_for(wanted: CacheSettings) -> Cache:
    if wanted.kind == "lru":
        return LruCache(wanted.results)
    return NoCache() if wanted.kind == "none" else ClassicCache()
