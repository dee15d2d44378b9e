"""The prompt panel: words, settings, and the button Generate."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from sfumato_desktop.generate import PanelValues
from sfumato_desktop.theme import SPACING


class PromptPanel(QWidget):
    """Shows and gives `PanelValues`; says when Generate or Cancel was pressed."""

    generate = Signal()
    cancel = Signal()

    def __init__(self, models: Sequence[str], samplers: Sequence[str], schedules: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.prompt = self._text(self.tr("Prompt"), self.tr("What the picture shows"), 84)
        self.negative = self._text(self.tr("Negative prompt"), self.tr("What it does not show"), 48)
        self.model = self._choice(self.tr("Model"), models)
        self.sampler = self._choice(self.tr("Sampler"), samplers, "dpmpp_2m")
        self.schedule = self._choice(self.tr("Schedule"), schedules, "karras")
        self.steps = self._number(self.tr("Steps"), 1, 1000, 20)
        self.cfg = self._decimal(self.tr("Guidance"), 0.0, 30.0, 6.0, 0.5)
        self.strength = self._decimal(self.tr("Strength"), 0.0, 1.0, 1.0, 0.05)
        self.strength.setToolTip(self.tr("How much of what is in the frame may change; 1 replaces it"))
        self.seed = self._number(self.tr("Seed"), 0, 2**31 - 1, 1)
        self.random_seed = QCheckBox(self.tr("random"))
        self.random_seed.setChecked(True)
        self.random_seed.toggled.connect(lambda on: self.seed.setEnabled(not on))
        self.seed.setEnabled(False)
        self.button = QPushButton(self.tr("Generate"))
        self.button.setDefault(True)
        self.button.setShortcut("Ctrl+Return")
        self.button.clicked.connect(self.generate)
        self.stop = QPushButton(self.tr("Cancel"))
        self.stop.setEnabled(False)
        self.stop.clicked.connect(self.cancel)
        self.bar = QProgressBar()
        self.bar.setAccessibleName(self.tr("Progress"))
        self.bar.setFormat("")
        self.bar.setRange(0, 1)
        self.bar.setValue(0)
        self._lay_out()

    def values(self) -> PanelValues:
        """What is set now."""
        return PanelValues(
            prompt=self.prompt.toPlainText(),
            negative=self.negative.toPlainText(),
            model=self.model.currentText(),
            steps=self.steps.value(),
            cfg=self.cfg.value(),
            sampler=self.sampler.currentText(),
            schedule=self.schedule.currentText(),
            seed=None if self.random_seed.isChecked() else self.seed.value(),
            strength=self.strength.value(),
        )

    def show_progress(self, what: str, done: int, total: int) -> None:
        """A step of the running job."""
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(done)
        self.bar.setFormat(f"{what} {done}/{total}")

    def show_running(self, running: bool) -> None:
        """Whether a job is on its way."""
        self.stop.setEnabled(running)
        if not running:
            self.bar.setRange(0, 1)
            self.bar.setValue(0)
            self.bar.setFormat("")

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setSpacing(SPACING)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for widget in (self.model, self.sampler, self.schedule, self.steps, self.cfg, self.strength):
            form.addRow(widget.accessibleName(), widget)
        seed = QHBoxLayout()
        seed.addWidget(self.seed, 1)
        seed.addWidget(self.random_seed)
        form.addRow(self.seed.accessibleName(), seed)
        for widget in (self.model, self.sampler, self.schedule, self.steps, self.cfg, self.strength):
            widget.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 2)
        buttons.addWidget(self.stop, 1)
        whole = QVBoxLayout(self)
        whole.setSpacing(SPACING)
        for text in (self.prompt, self.negative):
            label = QLabel(text.accessibleName())
            label.setBuddy(text)
            whole.addWidget(label)
            whole.addWidget(text)
        whole.addLayout(buttons)
        whole.addWidget(self.bar)
        whole.addLayout(form)
        whole.addStretch(1)

    def _text(self, name: str, hint: str, height: int) -> QPlainTextEdit:
        widget = QPlainTextEdit()
        widget.setAccessibleName(name)
        widget.setPlaceholderText(hint)
        widget.setFixedHeight(height)
        widget.setTabChangesFocus(True)
        return widget

    def _choice(self, name: str, items: Sequence[str], chosen: str = "") -> QComboBox:
        widget = QComboBox()
        widget.setAccessibleName(name)
        widget.addItems(list(items))
        widget.setMinimumContentsLength(12)
        widget.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        if chosen in items:
            widget.setCurrentText(chosen)
        return widget

    def _number(self, name: str, low: int, high: int, value: int) -> QSpinBox:
        widget = QSpinBox()
        widget.setAccessibleName(name)
        widget.setRange(low, high)
        widget.setValue(value)
        return widget

    def _decimal(self, name: str, low: float, high: float, value: float, step: float) -> QDoubleSpinBox:
        widget = QDoubleSpinBox()
        widget.setAccessibleName(name)
        widget.setRange(low, high)
        widget.setSingleStep(step)
        widget.setValue(value)
        return widget
