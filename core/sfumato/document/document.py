"""The document: a picture that changes, only by edits, and says so to its listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from sfumato.document.commands import Command
from sfumato.document.editing import Edit
from sfumato.document.events import (
    DocumentEvent,
    DocumentSaved,
    EditCommitted,
    FrameChanged,
    HistoryChanged,
    LayerAdded,
    LayerChanged,
    LayerRemoved,
    LayersReordered,
    PixelsChanged,
    SelectionChanged,
    SizeChanged,
)
from sfumato.document.history import History
from sfumato.document.layers import PARTS, SELECTION, GroupLayer, Layer, RasterLayer, SurfaceId, walk
from sfumato.document.picture import Picture, Structure
from sfumato.document.planes import from_pixels
from sfumato.document.png import bands_of
from sfumato.document.tiles import TileKey, Tiles, bounds_of_key
from sfumato.geometry import Bounds, Size

Listener = Callable[[DocumentEvent], object]


class Document(Picture):
    """A picture with a history. It belongs to one thread; others get a `snapshot`."""

    def __init__(
        self,
        structure: Structure,
        surfaces: Mapping[SurfaceId, Tiles] | None = None,
        unknown: Mapping[str, bytes] | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__(structure, surfaces, unknown)
        self.history = history or History()
        self._listeners: list[Listener] = []
        self._edit: Edit | None = None
        self._saved_at: object = None

    @classmethod
    def new(cls, width: int, height: int, *, layer: str = "Layer 1", history: History | None = None) -> Document:
        """An empty document with one layer, of this name, and the frame around all of it. Takes no memory for pixels."""
        size = Size(width, height)
        return cls(Structure(size=size, frame=Bounds.of(size), layers=(RasterLayer(name=layer),)), history=history)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on; returns the function that ends it."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    @classmethod
    def of_pixels(cls, pixels: NDArray[Any], name: str = "", *, history: History | None = None) -> Document:
        """A document of one layer that shows a picture: what `images.read_image` gives, or any that `from_pixels` takes."""
        document = cls.new(pixels.shape[1], pixels.shape[0], history=history)
        layer = replace(document.structure.layers[0], name=name or "Picture")
        document.structure = replace(document.structure, layers=(layer,))
        tiles = document.own_surface(SurfaceId(layer.id))
        for band in bands_of(document.bounds):
            tiles.write(band, from_pixels(pixels[band.top : band.bottom]))
        tiles.tidied()
        return document

    def snapshot(self) -> Picture:
        """This moment, never to change: for saving, compositing and generating in other threads. Copies no pixels."""
        surfaces = {name: tiles.snapshot() for name, tiles in self._surfaces.items() if len(tiles)}
        return Picture(self.structure, surfaces, self.unknown, self.history.last)

    @property
    def open_edit(self) -> Edit | None:
        """The edit that is going on: a stroke whose pen is still down."""
        return self._edit

    @property
    def is_modified(self) -> bool:
        """Something has changed since it was opened or saved."""
        return self.history.last is not self._saved_at

    def begin(self, label: str, merge_key: str | None = None) -> Edit:
        """Begin an edit that lasts until `commit` or `cancel`; one that is still open is committed first.

        Commands in a row with the same `merge_key` (say "opacity of 17") become one, if they change no pixels.
        """
        if self._edit is not None:
            self._edit.commit()
        self._edit = Edit(self, label, merge_key)
        return self._edit

    @contextmanager
    def edit(self, label: str, merge_key: str | None = None) -> Iterator[Edit]:
        """An edit for a `with` block, cancelled if that fails. Within another one it is part of that: a group of commands is one."""
        if self._edit is not None:
            yield self._edit
            return
        edit = self.begin(label, merge_key)
        try:
            yield edit
        except BaseException:
            edit.cancel()
            raise
        edit.commit()

    def undo(self) -> str | None:
        """Take back the last command and return its label, or None if there is none. An open edit is cancelled instead."""
        if self._edit is not None:
            label = self._edit.label
            self._edit.cancel()
            return label
        return self._applied(self.history.step_back(lambda command: self._swap(command, command.before)))

    def redo(self) -> str | None:
        """Do again what was undone last, and return its label."""
        if self._edit is not None:
            return None
        return self._applied(self.history.step_forward(lambda command: self._swap(command, command.after)))

    def saved(self, path: str, picture: Picture) -> None:
        """A snapshot was written to `path`; what was edited since it was taken still counts as modified."""
        self._saved_at = picture.moment
        self.tell(DocumentSaved(path, picture))

    def close(self) -> None:
        """Give back what the history holds in memory and on the disk."""
        self._edit = None
        self._listeners.clear()
        self.history.close()

    # for edits

    def own_surface(self, surface: SurfaceId) -> Tiles:
        """The tiles themselves, made when first asked for; to be written to by an `Edit` only."""
        if surface not in self._surfaces:
            self._surfaces[surface] = Tiles(*PARTS[surface.part])
        return self._surfaces[surface]

    def end_edit(self, command: Command | None) -> None:
        """The open edit is over; `command` is what it did."""
        self._edit = None
        if command is not None:
            self.history.push(command)
            self._committed(command)

    def set_structure(self, structure: Structure) -> None:
        """Another structure, told to the listeners as what it changed."""
        old, self.structure = self.structure, structure
        for event in self._differences(old, structure):
            self.tell(event)

    def tell(self, event: DocumentEvent) -> None:
        """Hand an event to every listener."""
        for listener in tuple(self._listeners):
            listener(event)

    def _swap(self, command: Command, structure: Structure) -> None:
        self.set_structure(structure)  # first, so that listeners hear where a layer was before its pixels are gone
        for name in command.patches:
            self.own_surface(name).start_recording()
        try:
            command.swap(self._surfaces)
        finally:
            for name in command.patches:
                self._surfaces[name].stop_recording()
        there = set(structure.surfaces())
        for name, patches in command.patches.items():
            if name not in there:
                continue
            bounds = Bounds.around(_place(key, patch.box) for key, patch in patches.items()).moved(structure.offset_of(name))
            self.tell(SelectionChanged(bounds, structure.selection_active) if name == SELECTION else PixelsChanged(name, bounds))

    def _applied(self, command: Command | None) -> str | None:
        if command is None:
            return None
        self._committed(command)
        return command.label

    def _committed(self, command: Command) -> None:
        self.tell(EditCommitted(command.label, {name: tuple(patches) for name, patches in command.patches.items()}))
        self.tell(HistoryChanged(self.history.undo_label, self.history.redo_label))

    def _differences(self, old: Structure, new: Structure) -> Iterator[DocumentEvent]:
        if old is new:
            return
        if old.layers is not new.layers:
            yield from self._layer_differences(old, new)
        if old.size != new.size:
            yield SizeChanged(new.size)
        if old.frame != new.frame:
            yield FrameChanged(new.frame)
        if old.selection_active != new.selection_active:
            yield SelectionChanged(self.surface(SELECTION).bounds(), new.selection_active)

    def _layer_differences(self, old: Structure, new: Structure) -> Iterator[DocumentEvent]:
        before, after = _places(old), _places(new)
        yield from (LayerRemoved(each, self.bounds_of(before[each][0])) for each in before.keys() - after.keys())
        yield from (LayerAdded(each, parent) for each, (_, parent) in after.items() if each not in before)
        for each in after.keys() & before.keys():
            was, now = before[each][0], after[each][0]
            if was is not now and _without_children(was) != _without_children(now):
                yield LayerChanged(each, self.bounds_of(was) | self.bounds_of(now))
        stayed = [[(each, places[each][1]) for each in places if each in before and each in after] for places in (before, after)]
        if stayed[0] != stayed[1]:
            yield LayersReordered(Bounds.around(self.bounds_of(each) for each in new.layers))


def _place(key: TileKey, box: Bounds) -> Bounds:
    return box.moved(bounds_of_key(key).corner)


def _places(structure: Structure) -> dict[str, tuple[Layer, str | None]]:
    """id -> (layer, id of its group), in order."""
    found: dict[str, tuple[Layer, str | None]] = {each.id: (each, None) for each in walk(structure.layers)}
    for layer in walk(structure.layers):
        if isinstance(layer, GroupLayer):
            found.update({child.id: (child, layer.id) for child in layer.children})
    return found


def _without_children(layer: Layer) -> dict[str, object]:
    return {name: value for name, value in vars(layer).items() if name != "children"}
