"""The kernel: plugins, catalogue, models, folders and settings put together, without globals and without torch.

`App.make` is quick: it imports the plugins' first modules and nothing heavy. The engine is built when a graph first runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.backends import Backend
from sfumato.backends.in_process import InProcessBackend
from sfumato.caching import Cache
from sfumato.catalogue import Catalogue
from sfumato.errors import BadValueError
from sfumato.graph import Graph
from sfumato.lazy import lazy_module
from sfumato.models import ModelFile, ModelLibrary
from sfumato.models.hashing import ModelHashes
from sfumato.models.recognise import recognise_file
from sfumato.models.recognised import Recognised
from sfumato.paths import Folders
from sfumato.plugin_manager import PluginManager
from sfumato.recipes import graph_for
from sfumato.request import GenerateRequest
from sfumato.run_folders import RunFolders
from sfumato.runner import Runner

if TYPE_CHECKING:
    from sfumato.engine import services as engine
else:
    engine = lazy_module("sfumato.engine.services")


@dataclass
class App:
    """One kernel. Everything that needs a part of it is handed that part."""

    folders: Folders
    plugins: PluginManager
    catalogue: Catalogue
    library: ModelLibrary
    pictures: dict[str, Path] = field(default_factory=dict)
    """Pictures the user named himself, by the name graphs use for them."""
    cpu: bool = False
    precision: str = "auto"
    _services: Any = None

    @classmethod
    def make(
        cls,
        folders: Folders | None = None,
        *,
        cpu: bool = False,
        precision: str = "auto",
        extra_models: Mapping[str, Sequence[Path]] | None = None,
        blocked: Sequence[str] = (),
    ) -> App:
        """Load the plugins and put everything together."""
        folders = folders or Folders.of_user()
        plugins = PluginManager(blocked)
        plugins.load()
        app = cls(folders, plugins, Catalogue(), ModelLibrary(folders, extra_models), cpu=cpu, precision=precision)
        for name, types in plugins.nodes_by_plugin().items():
            app.catalogue.add(types, name)
        for source, resolve in app._sources().items():
            app.catalogue.add_source(source, resolve)
        return app

    def services(self) -> Any:
        """The engine (`sfumato.engine.services.Services`), built at the first call: this is where torch is imported."""
        if self._services is None:
            memory = self.folders.cache / "cpu-dtype.json"
            self._services = engine.Services.make(self.library, self.registered(), cpu=self.cpu, precision=self.precision, memory=memory)
        return self._services

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

    def hash_of(self, file: ModelFile) -> str:
        """sha256 of a model's weights; worked out once for each state of the file."""
        return ModelHashes(self.folders.cache).sha256(file.path)

    def rung(self) -> str:
        """The highest rung of the memory ladder that the last run needed."""
        rungs = self._services.rungs if self._services is not None else []
        return rungs[-1] if rungs else "full"

    def backend(self, name: str = "in-process", *, output: Path | None = None, cache: Cache | None = None) -> Backend:
        """Where graphs run. `output` is where nodes save instead of the user's own folder."""
        if name == InProcessBackend.name:
            return InProcessBackend(Runner(self.catalogue, cache, self.plugins), self.services, self.run_folders(output))
        found = self.plugins.backend_for(name, self)
        if found is None:
            raise BadValueError(f"there is no backend {name!r}", "backend", f"There is {InProcessBackend.name!r}, and what plugins bring.")
        return found

    def run_folders(self, output: Path | None = None) -> RunFolders:
        """The folders that nodes see."""
        return RunFolders(self.folders.input, output or self.folders.output, self.folders.temp, self.pictures)

    def graph_for(self, request: GenerateRequest) -> Graph:
        """The graph that answers a request: a plugin's, or the built-in one."""
        return self.plugins.recipe_for(request) or graph_for(request)

    def _sources(self) -> dict[str, Callable[[str], Sequence[str]]]:
        """Where the choices of nodes come from."""
        hooks = self.plugins
        return {
            "models": lambda source: self.library.names(source.partition(":")[2]),
            "samplers": lambda source: [offer.name for offer in hooks.register_samplers()],
            "schedules": lambda source: [offer.name for offer in hooks.register_schedules()],
            "preprocessors": lambda source: [offer.name for offer in hooks.register_preprocessors()],
            "images": lambda source: self.run_folders().names(),
        }
