"""The window: canvas in the middle, panels around it, and the actions that join them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QActionGroup, QCloseEvent, QKeySequence
from PySide6.QtWidgets import QDockWidget, QFileDialog, QMainWindow, QMessageBox, QWidget

from sfumato.app import App
from sfumato.backends import Backend
from sfumato.document.compositing import composite
from sfumato.document.document import Document
from sfumato.document.layers import RasterLayer, SurfaceId
from sfumato.document.ora_reading import read_ora
from sfumato.document.ora_writing import write_ora
from sfumato.document.planes import from_pixels, to_8_bit_pixels
from sfumato.errors import SfumatoError
from sfumato.events import NodeProgressed
from sfumato.geometry import Bounds
from sfumato.images.reading import read_image
from sfumato.images.writing import write_image
from sfumato.models.defaults import Defaults, defaults_for
from sfumato.pixels import as_array
from sfumato_desktop.bridge import Bridge, was_cancelled
from sfumato_desktop.canvas.tools.brush import BrushTool
from sfumato_desktop.canvas.tools.selection import FrameTool, RectangleSelection
from sfumato_desktop.canvas.view import CanvasView, Tool
from sfumato_desktop.canvas.viewport import Viewport
from sfumato_desktop.generate import Generate, Job
from sfumato_desktop.panels.brush import BrushPanel
from sfumato_desktop.panels.layers import LayersPanel
from sfumato_desktop.panels.prompt import PromptPanel

PICTURES = "*.png *.jpg *.jpeg *.webp"


class MainWindow(QMainWindow):
    """One document at a time; the engine lives behind the bridge."""

    def __init__(self, app: App, backend: Backend, document: Document) -> None:
        super().__init__()
        self._app, self._document = app, document
        self._path: Path | None = None
        self.bridge = Bridge(backend, self)
        self.bridge.told.connect(self._told)
        self.bridge.done.connect(self._done)
        self.bridge.failed.connect(self._failed)
        self._generate = Generate(app.folders.input, app.graph_for, self._native_side)
        self._running: dict[int, Document] = {}
        self.view = CanvasView(document)
        self.setCentralWidget(self.view)
        resolve = app.catalogue.resolve
        self.prompt = PromptPanel(resolve("models:checkpoints"), resolve("samplers"), resolve("schedules"))
        self.prompt.model.currentTextChanged.connect(self._use_usual_settings)
        self._use_usual_settings(self.prompt.model.currentText())
        self.prompt.generate.connect(self.generate)
        self.prompt.cancel.connect(self.bridge.cancel)
        self.brush = BrushPanel()
        self.layers = LayersPanel(document)
        self._add_dock(self.tr("Generate"), self.prompt, Qt.DockWidgetArea.LeftDockWidgetArea)
        self._add_dock(self.tr("Brush"), self.brush, Qt.DockWidgetArea.RightDockWidgetArea)
        self._add_dock(self.tr("Layers"), self.layers, Qt.DockWidgetArea.RightDockWidgetArea)
        self._make_actions()
        self.view.viewport_changed.connect(self._show_zoom)
        self.resize(1280, 820)
        docks = self.findChildren(QDockWidget)
        self.resizeDocks(docks, [300] * len(docks), Qt.Orientation.Horizontal)
        self._show_title()

    # --- Actions -------------------------------------------------------------------------------------------------------

    def _make_actions(self) -> None:
        file_menu, edit_menu, view_menu = (
            self.menuBar().addMenu(words) for words in (self.tr("&File"), self.tr("&Edit"), self.tr("&View"))
        )
        standard = QKeySequence.StandardKey
        self._action(file_menu, self.tr("&New"), standard.New, self.new)
        self._action(file_menu, self.tr("&Open…"), standard.Open, self.ask_open)
        self._action(file_menu, self.tr("&Save"), standard.Save, self.save)
        self._action(file_menu, self.tr("Save &as…"), standard.SaveAs, self.ask_save_as)
        self._action(file_menu, self.tr("&Export picture…"), "Ctrl+E", self.ask_export)
        file_menu.addSeparator()
        self._action(file_menu, self.tr("&Quit"), standard.Quit, self.close)
        self._action(edit_menu, self.tr("&Undo"), standard.Undo, lambda: self._document.undo())
        self._action(edit_menu, self.tr("&Redo"), standard.Redo, lambda: self._document.redo())
        edit_menu.addSeparator()
        self._action(edit_menu, self.tr("Select &nothing"), "Ctrl+Shift+A", self._select_nothing)
        self._action(edit_menu, self.tr("&Generate"), "Ctrl+Return", self.generate)
        self._action(view_menu, self.tr("&Fit"), "Ctrl+0", self.view.fit)
        self._action(view_menu, self.tr("&1:1"), "Ctrl+1", lambda: self.view.set_zoom(1.0))
        bar = self.addToolBar(self.tr("Tools"))
        bar.setObjectName("tools")
        bar.setMovable(False)
        group = QActionGroup(self)
        for words, key, tool in self._tools():
            action = QAction(words, self)
            action.setCheckable(True)
            action.setShortcut(key)
            action.setToolTip(f"{words} ({key})")
            action.triggered.connect(lambda checked=False, tool=tool: self._use(tool))
            group.addAction(action)
            bar.addAction(action)
        group.actions()[0].trigger()

    def _tools(self) -> list[tuple[str, str, Tool]]:
        chosen = lambda: self.layers.current  # noqa: E731
        return [
            (self.tr("Brush"), "B", BrushTool(self.brush.brush, chosen)),
            (self.tr("Eraser"), "E", BrushTool(lambda: self.brush.brush(eraser=True), chosen)),
            (self.tr("Select rectangle"), "M", RectangleSelection()),
            (self.tr("Frame"), "F", FrameTool()),
        ]

    def _use(self, tool: Tool) -> None:
        self.view.tool = tool

    def _action(self, menu: Any, words: str, shortcut: Any, act: Callable[[], object]) -> QAction:
        action = QAction(words, self)
        action.setShortcut(shortcut)
        action.triggered.connect(lambda checked=False: self._guarded(act))
        menu.addAction(action)
        return action

    def _guarded(self, act: Callable[[], object]) -> None:
        """Whatever an action cannot do is said in words; the document stays as it is."""
        try:
            act()
        except SfumatoError as error:
            self.show_error(error)

    def show_error(self, error: SfumatoError) -> None:
        """One message that can be copied: what happened, what was kept, what to do."""
        box = QMessageBox(QMessageBox.Icon.Warning, "Sfumato", str(error), QMessageBox.StandardButton.Ok, self)
        box.setInformativeText(self.tr("The document is as it was."))
        box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()

    # --- Generating ----------------------------------------------------------------------------------------------------

    def generate(self) -> None:
        """Send what the panel and the document say now to the engine."""

        def press() -> None:
            job = self._generate.job(self._document, self.prompt.values())
            self._running[job.number] = self._document
            self.prompt.show_running(True)
            self.prompt.show_progress(self.tr("waiting for the engine"), 0, 1)
            self.bridge.submit(job)

        self._guarded(press)

    def _native_side(self, model: str) -> int:
        return self._usual(model).width

    def _usual(self, model: str) -> Defaults:
        file = self._app.library.find("checkpoints", model)
        return defaults_for(file, self._app.recognise(file))

    def _use_usual_settings(self, model: str) -> None:
        """A model has its own usual guidance and steps; the user may change them afterwards."""

        def use() -> None:
            usual = self._usual(model)
            self.prompt.cfg.setValue(usual.cfg)
            self.prompt.steps.setValue(usual.steps)

        if model:
            self._guarded(use)

    def _told(self, number: int, event: Any) -> None:
        if number in self._running and isinstance(event, NodeProgressed):
            self.prompt.show_progress(event.step.what, event.step.done, event.step.total)

    def _done(self, job: Job, picture: Any) -> None:
        document = self._running.pop(job.number, None)
        self.prompt.show_running(bool(self._running))
        if document is self._document:
            self._generate.accept(document, job, np.asarray(as_array(picture), np.float32))

    def _failed(self, job: Job, error: SfumatoError) -> None:
        self._running.pop(job.number, None)
        self.prompt.show_running(bool(self._running))
        if not was_cancelled(error):
            self.show_error(error)

    # --- Files ---------------------------------------------------------------------------------------------------------

    def new(self) -> None:
        """An empty document of the same size."""
        if self._may_leave():
            size = self._document.structure.size
            self._show(Document.new(size.width, size.height), None)

    def open_file(self, path: Path) -> None:
        """Open a document, or a picture as the layer of a new one."""
        if path.suffix.lower() == ".ora":
            self._show(read_ora(path).document, path)
            return
        planes = from_pixels(read_image(path))
        document = Document.new(planes.shape[2], planes.shape[1])
        with document.edit("Open picture") as edit:
            edit.change(document.structure.layers[0].id, name=path.stem)
            edit.write(SurfaceId(document.structure.layers[0].id), Bounds.of(document.structure.size), planes)
        self._show(document, None)

    def ask_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, self.tr("Open"), "", self.tr("Documents and pictures") + f" (*.ora {PICTURES})")
        if name and self._may_leave():
            self.open_file(Path(name))

    def save(self) -> None:
        """Save where the document came from, or ask."""
        if self._path is None:
            self.ask_save_as()
        else:
            self.save_as(self._path)

    def save_as(self, path: Path) -> None:
        picture = self._document.snapshot()
        write_ora(path, picture)
        self._path = path
        self._document.saved(str(path), picture)
        self._show_title()

    def ask_save_as(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, self.tr("Save"), "", "OpenRaster (*.ora)")
        if name:
            self.save_as(Path(name) if name.lower().endswith(".ora") else Path(f"{name}.ora"))

    def export(self, path: Path) -> None:
        """Write the picture that is seen."""
        write_image(path, to_8_bit_pixels(composite(self._document, Bounds.of(self._document.structure.size))))

    def ask_export(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, self.tr("Export"), "", self.tr("Pictures") + f" ({PICTURES})")
        if name:
            self.export(Path(name))

    def _show(self, document: Document, path: Path | None) -> None:
        self._document, self._path = document, path
        self.view.show_document(document)
        self.layers.show_document(document)
        self._show_title()

    def _may_leave(self) -> bool:
        """Whether the document may be let go of: saved, or the user says so."""
        if not self._document.is_modified:
            return True
        buttons = QMessageBox.StandardButton
        question = self.tr("The document has changes that are not saved.")
        answer = QMessageBox.question(self, "Sfumato", question, buttons.Save | buttons.Discard | buttons.Cancel, buttons.Save)
        if answer == buttons.Save:
            self._guarded(self.save)
            return not self._document.is_modified
        return answer == buttons.Discard

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._may_leave():
            event.ignore()
            return
        self.bridge.close()
        event.accept()

    # --- Small things --------------------------------------------------------------------------------------------------

    def _add_dock(self, title: str, widget: QWidget, area: Qt.DockWidgetArea) -> None:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        dock.setWidget(widget)
        dock.setFeatures(QDockWidget.DockWidgetFeature.DockWidgetMovable | QDockWidget.DockWidgetFeature.DockWidgetFloatable)
        self.addDockWidget(area, dock)

    def _select_nothing(self) -> None:
        with self._document.edit("Select nothing") as edit:
            edit.select(active=False)

    def _show_zoom(self, viewport: Viewport) -> None:
        size = self._document.structure.size
        self.statusBar().showMessage(f"{size.width} x {size.height}    {viewport.zoom * 100:.0f} %")

    def _show_title(self) -> None:
        self.setWindowTitle(f"{self._path.name if self._path else self.tr('Untitled')} - Sfumato")


def new_document(side: int) -> Document:
    """A square document with a white ground and an empty layer to paint on."""
    document = Document.new(side, side)
    with document.edit("New") as edit:
        ground = document.structure.layers[0]
        edit.change(ground.id, name="Ground")
        edit.write(SurfaceId(ground.id), Bounds.of(document.structure.size), np.full((4, side, side), 65535, np.uint16))
        edit.add(RasterLayer(name="Paint"))
    document.saved("", document.snapshot())
    return document
