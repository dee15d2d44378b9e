"""The kernel: every setting has its effect, and what the parts are handed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.app import App
from sfumato.caching import ClassicCache, LruCache, NoCache
from sfumato.errors import BadFileError, BadValueError, ModelMissingError, PluginError
from sfumato.graph import Graph, Node
from sfumato.hookspecs import hookimpl
from sfumato.models.safetensors_file import write_safetensors
from sfumato.paths import Folders
from sfumato.request import GenerateRequest
from sfumato.settings import CacheSettings, EngineSettings, ModelSettings, PictureSettings, Settings, all_settings


@pytest.fixture
def empty(tmp_path: Path) -> Folders:
    return Folders.under(tmp_path)


def with_engine(folders: Folders, **values: Any) -> App:
    return App.make(folders, settings=Settings(engine=EngineSettings(**values)))


# --- Settings --------------------------------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_users_file(empty: Folders) -> None:
    empty.settings.mkdir()
    empty.settings_file.write_text('[cache]\nkind = "none"\n')
    assert App.make(empty).settings.cache.kind == "none"
    assert App.make(empty, settings=Settings()).settings.cache.kind == "classic"


def test_without_a_file_the_defaults_hold(empty: Folders) -> None:
    assert App.make(empty).settings == Settings()


def test_a_faulty_file_of_settings_is_refused(empty: Folders) -> None:
    empty.settings.mkdir()
    empty.settings_file.write_text('[engine]\nprecision = "fine"\n')
    with pytest.raises(BadFileError, match=r"line 2: engine\.precision"):
        App.make(empty)


def test_what_is_called_for_counts_more_than_the_settings(empty: Folders) -> None:
    app = App.make(empty, settings=Settings(engine=EngineSettings("cuda", "float16")), cpu=True, precision="float32")
    assert (app.settings.engine.device, app.settings.engine.precision) == ("cpu", "float32")


def test_every_setting_is_looked_at_in_one_of_the_tests_here() -> None:
    """A setting without effect is a lie; whoever adds one adds the test of its effect, and its name here."""
    assert {each.name for each in all_settings(Settings())} == {
        "engine.device",
        "engine.precision",
        "engine.memory_gb",
        "engine.tiled_vae",
        "models.folders",
        "pictures.format",
        "pictures.lossless",
        "pictures.quality",
        "pictures.carry",
        "pictures.most_megapixels",
        "cache.kind",
        "cache.results",
    }


def test_the_device_and_the_memory_bound_the_engine(empty: Folders) -> None:
    residency = with_engine(empty, device="cpu", memory_gb=0.5).services().residency
    assert residency.device.device.type == "cpu"
    assert residency.device.budget == residency.main_budget == 500_000_000
    unbounded = with_engine(empty, device="cpu").services().residency
    assert unbounded.main_budget == unbounded.device.budget > 500_000_000


def test_a_device_that_is_not_there_is_refused_when_the_engine_is_built(empty: Folders) -> None:
    app = with_engine(empty, device="mps" if sys.platform != "darwin" else "cuda")
    with pytest.raises(BadValueError, match="there is no device"):
        app.services()


@pytest.mark.slow
def test_the_memory_bounds_what_stays_loaded(empty: Folders) -> None:
    """With room for nothing, each part of the model is let go for the next; with room, all stay."""
    resident = []
    for memory in (0.000001, 0.0):
        app = with_engine(empty, device="cpu", precision="float32", memory_gb=memory)
        request = GenerateRequest("x", width=64, height=64, steps=1)
        app.backend().run(app.graph_for(request), hidden={})
        resident.append(app.services().residency.counters.evictions)
    assert resident[0] > resident[1] == 0


def test_the_precision_is_that_of_the_networks(empty: Folders) -> None:
    import torch

    for precision in ("float32", "bfloat16"):
        services = with_engine(empty, device="cpu", precision=precision).services()
        assert services.dtype_for(1000) == getattr(torch, precision)


def test_tiles_are_used_where_the_settings_say_so(empty: Folders) -> None:
    request = GenerateRequest("x", width=192, height=64, steps=1)
    rungs = []
    for tiled in (False, True):
        app = with_engine(empty, device="cpu", precision="float32", tiled_vae=tiled)
        app.backend().run(app.graph_for(request), hidden={})
        rungs.append(list(app.services().rungs))
    assert rungs == [[], ["tiled VAE"]]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [(CacheSettings("classic"), ClassicCache), (CacheSettings("lru", 3), LruCache), (CacheSettings("none"), NoCache)],
)
def test_the_cache_is_the_one_of_the_settings(empty: Folders, settings: CacheSettings, kind: type) -> None:
    backend: Any = App.make(empty, settings=Settings(cache=settings)).backend()
    assert isinstance(backend.runner.cache, kind)
    if isinstance(backend.runner.cache, LruCache):
        assert backend.runner.cache.size == 3


def test_nodes_see_how_pictures_are_read_and_saved(empty: Folders) -> None:
    pictures = PictureSettings("webp", False, 50, False, 3)
    assert App.make(empty, settings=Settings(pictures=pictures)).run_folders().how == pictures


def test_models_of_other_installations_are_found_after_ones_own(empty: Folders, tmp_path: Path) -> None:
    own, other = empty.models / "loras", tmp_path / "ComfyUI" / "models" / "loras"
    (tmp_path / "ComfyUI" / "models" / "checkpoints").mkdir(parents=True)
    for folder, names in ((own, ["a", "both"]), (other, ["b", "both"])):
        folder.mkdir(parents=True)
        for name in names:
            write_safetensors(folder / f"{name}.safetensors", {"x": np.zeros(1, np.float32)})
    library = App.make(empty, settings=Settings(models=ModelSettings((str(tmp_path / "ComfyUI"),)))).library
    assert {"a.safetensors", "b.safetensors", "both.safetensors"} <= set(library.names("loras"))
    assert library.find("loras", "both").path.parent == own
    assert library.find("loras", "b").path.parent == other


# --- Models that the user names by path --------------------------------------------------------------------------------------------


def test_a_model_by_path_is_one_of_the_choices_from_then_on(empty: Folders, tmp_path: Path) -> None:
    app = App.make(empty)
    write_safetensors(tmp_path / "mine.safetensors", {"x": np.zeros(1, np.float32)})
    assert "mine.safetensors" not in app.catalogue.resolve("models:loras")
    file = app.library.find_path("loras", str(tmp_path / "mine.safetensors"))
    assert file.name == "mine.safetensors"
    assert "mine.safetensors" in app.catalogue.resolve("models:loras")
    assert app.library.find("loras", "mine.safetensors") == file
    assert app.library.is_typed(file)
    with pytest.raises(ModelMissingError):
        App.make(empty).library.find("loras", "mine.safetensors")


def test_a_path_to_a_model_that_is_known_is_that_model(empty: Folders) -> None:
    folder = empty.models / "loras" / "sub"
    folder.mkdir(parents=True)
    write_safetensors(folder / "mine.safetensors", {"x": np.zeros(1, np.float32)})
    file = App.make(empty).library.find_path("loras", str(folder / "mine.safetensors"))
    assert file.name == "sub/mine.safetensors"


# --- Recipes and backends -----------------------------------------------------------------------------------------------------------


class _Recipe:
    """A plugin that knows better, or thinks so."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @hookimpl
    def recipe_for(self, request: GenerateRequest) -> Graph | None:
        return self.graph if request.prompt == "mine" else None


def test_a_plugins_recipe_is_asked_first(empty: Folders) -> None:
    app = App.make(empty)
    graph = Graph({"1": Node("SaveImage", {})})
    app.plugins.add(_Recipe(graph), "mine")
    assert app.graph_for(GenerateRequest("mine")) == graph
    assert app.graph_for(GenerateRequest("yours")) != graph


def test_a_recipe_that_saves_nothing_is_its_plugins_fault(empty: Folders) -> None:
    from sfumato.recipes import picture_of

    with pytest.raises(PluginError, match="saves no picture"):
        picture_of(Graph({"1": Node("EmptyImage", {})}))


def test_an_unknown_backend_is_refused(empty: Folders) -> None:
    with pytest.raises(BadValueError, match="there is no backend 'moon'"):
        App.make(empty).backend("moon")


def test_the_machine_is_described_by_what_numbers_depend_on(app: App) -> None:
    assert set(app.machine()) == {"device", "hardware", "threads", "precision", "tiled_vae"}
    assert app.machine()["device"] == "cpu"
    assert app.machine()["precision"] == "float32"


def test_a_frozen_part_cannot_be_changed_behind_the_others(app: App) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        app.settings.engine.device = "cuda"  # type: ignore[misc]
