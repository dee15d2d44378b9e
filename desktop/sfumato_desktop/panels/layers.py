"""The layers panel: the stack from the top, what is shown, how strongly, and which one is painted on."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QListWidget, QListWidgetItem, QPushButton, QSlider, QVBoxLayout, QWidget

from sfumato.document.document import Document
from sfumato.document.events import DocumentEvent, LayerAdded, LayerChanged, LayerRemoved, LayersReordered
from sfumato.document.layers import Layer, RasterLayer
from sfumato_desktop.theme import SPACING


class LayersPanel(QWidget):
    """Listens to one document. `chosen` tells the id of the layer that tools work on."""

    chosen = Signal(str)

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.list = QListWidget()
        self.list.setAccessibleName(self.tr("Layers"))
        self.list.setSpacing(2)
        self.list.currentItemChanged.connect(self._choose)
        self.list.itemChanged.connect(self._show_or_hide)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setAccessibleName(self.tr("Opacity"))
        self.opacity.setRange(0, 100)
        self.opacity.valueChanged.connect(self._set_opacity)
        self._filling = False
        row = QHBoxLayout()
        row.addWidget(QLabel(self.tr("Opacity")))
        row.addWidget(self.opacity, 1)
        buttons = QHBoxLayout()
        for words, act in (
            (self.tr("Add"), self._add),
            (self.tr("Copy"), self._copy),
            (self.tr("Up"), lambda: self._move(1)),
            (self.tr("Down"), lambda: self._move(-1)),
            (self.tr("Delete"), self._delete),
        ):
            button = QPushButton(words)
            button.setMinimumWidth(0)
            button.clicked.connect(lambda checked=False, act=act: act())
            buttons.addWidget(button)
        whole = QVBoxLayout(self)
        whole.setSpacing(SPACING)
        whole.addLayout(row)
        whole.addWidget(self.list, 1)
        whole.addLayout(buttons)
        self.show_document(document)

    @property
    def current(self) -> str | None:
        """The id of the chosen layer."""
        item = self.list.currentItem()
        return None if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def show_document(self, document: Document) -> None:
        """Show the layers of another document."""
        self._document = document
        document.listen(self._hear)
        self._fill(document.structure.layers[-1].id if document.structure.layers else None)

    def _hear(self, event: DocumentEvent) -> None:
        if isinstance(event, LayerAdded):
            self._fill(event.layer)
        elif isinstance(event, LayerRemoved | LayersReordered | LayerChanged):
            self._fill(self.current)

    def _fill(self, chosen: str | None) -> None:
        self._filling = True
        self.list.clear()
        for layer in reversed(self._document.structure.layers):
            item = QListWidgetItem(layer.name or self.tr("Layer"))
            item.setData(Qt.ItemDataRole.UserRole, layer.id)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked if layer.visible else Qt.CheckState.Unchecked)
            self.list.addItem(item)
            if layer.id == chosen:
                self.list.setCurrentItem(item)
        if self.list.currentItem() is None and self.list.count():
            self.list.setCurrentRow(0)
        self._filling = False
        self._choose()

    def _layer(self) -> Layer | None:
        current = self.current
        return next((layer for layer in self._document.structure.layers if layer.id == current), None)

    def _choose(self, *_: object) -> None:
        layer = self._layer()
        if self._filling or layer is None:
            return
        self._filling = True
        self.opacity.setValue(round(layer.opacity * 100))
        self._filling = False
        self.chosen.emit(layer.id)

    def _show_or_hide(self, item: QListWidgetItem) -> None:
        if self._filling:
            return
        with self._document.edit("Show or hide layer") as edit:
            edit.change(str(item.data(Qt.ItemDataRole.UserRole)), visible=item.checkState() == Qt.CheckState.Checked)

    def _set_opacity(self, value: int) -> None:
        layer = self._layer()
        if self._filling or layer is None:
            return
        with self._document.edit("Layer opacity", merge_key=f"opacity of {layer.id}") as edit:
            edit.change(layer.id, opacity=value / 100)

    def _add(self) -> None:
        with self._document.edit("Add layer") as edit:
            edit.add(RasterLayer(name=self.tr("Layer {0}").format(len(self._document.structure.layers) + 1)))

    def _copy(self) -> None:
        layer = self._layer()
        if layer is not None:
            with self._document.edit("Copy layer") as edit:
                edit.duplicate(layer.id)

    def _delete(self) -> None:
        layer = self._layer()
        if layer is not None and len(self._document.structure.layers) > 1:
            with self._document.edit("Delete layer") as edit:
                edit.remove(layer.id)

    def _move(self, by: int) -> None:
        layer = self._layer()
        if layer is None:
            return
        ids = [each.id for each in self._document.structure.layers]
        target = ids.index(layer.id) + by
        if 0 <= target < len(ids):
            with self._document.edit("Move layer") as edit:
                edit.move(layer.id, index=target)
