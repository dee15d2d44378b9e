"""The brush panel: size, hardness, opacity, flow and colour."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import QColorDialog, QFormLayout, QHBoxLayout, QLabel, QPushButton, QSlider, QWidget

from sfumato_desktop.canvas.brush import Brush
from sfumato_desktop.theme import SPACING


class BrushPanel(QWidget):
    """Gives the `Brush` that is set."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colour = QColor(40, 90, 200)
        form = QFormLayout(self)
        form.setSpacing(SPACING)
        self.size_slider = self._slider(form, self.tr("Size"), 1, 400, 24, " px")
        self.hardness = self._slider(form, self.tr("Hardness"), 0, 100, 70, " %")
        self.opacity = self._slider(form, self.tr("Opacity"), 1, 100, 100, " %")
        self.flow = self._slider(form, self.tr("Flow"), 1, 100, 100, " %")
        self.colour_button = QPushButton()
        self.colour_button.setAccessibleName(self.tr("Colour"))
        self.colour_button.clicked.connect(self._ask_colour)
        form.addRow(self.tr("Colour"), self.colour_button)
        self._show_colour()

    def brush(self, *, eraser: bool = False) -> Brush:
        """The brush as set now, or the eraser of the same shape."""
        colour = self._colour
        return Brush(
            size=self.size_slider.value(),
            hardness=self.hardness.value() / 100,
            opacity=self.opacity.value() / 100,
            flow=self.flow.value() / 100,
            colour=(colour.redF(), colour.greenF(), colour.blueF()),
            eraser=eraser,
        )

    def set_colour(self, colour: QColor) -> None:
        """Paint with `colour` from now on."""
        self._colour = colour
        self._show_colour()
        self.changed.emit()

    def _ask_colour(self) -> None:
        chosen = QColorDialog.getColor(self._colour, self, self.tr("Colour"))
        if chosen.isValid():
            self.set_colour(chosen)

    def _show_colour(self) -> None:
        pixmap = QPixmap(48, 16)
        pixmap.fill(self._colour)
        self.colour_button.setIcon(QIcon(pixmap))
        self.colour_button.setText(self._colour.name())

    def _slider(self, form: QFormLayout, name: str, low: int, high: int, value: int, unit: str) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setAccessibleName(name)
        slider.setRange(low, high)
        shown = QLabel()
        shown.setMinimumWidth(52)
        shown.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        slider.valueChanged.connect(lambda now: shown.setText(f"{now}{unit}"))
        slider.valueChanged.connect(lambda _: self.changed.emit())
        slider.setValue(value)
        row = QHBoxLayout()
        row.addWidget(slider, 1)
        row.addWidget(shown)
        form.addRow(name, row)
        return slider
