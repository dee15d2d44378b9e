"""The window whole, offscreen, with the real engine in its own process: words become a layer, files come and go, errors are words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QMessageBox, QPlainTextEdit, QSlider, QWidget

from sfumato.app import App
from sfumato.document.compositing import composite
from sfumato.document.layers import GenerativeLayer
from sfumato.geometry import Bounds
from sfumato.images.reading import read_image
from sfumato.paths import Folders
from sfumato_desktop.main_window import MainWindow, new_document


@pytest.fixture(scope="module")
def application() -> QApplication:
    found = QApplication.instance()
    return found if isinstance(found, QApplication) else QApplication([])


@pytest.fixture
def window(application: QApplication, tmp_path: Path) -> Iterator[MainWindow]:
    app = App.make(Folders.under(tmp_path / "home"), cpu=True, precision="float32")
    found = MainWindow(app, app.backend("child"), new_document(128))
    found.show()
    yield found
    found._document.saved("", found._document.snapshot())
    found.close()
    found.deleteLater()


def _wait(until: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QTest.qWait(20)
    assert until()


def _messages(window: MainWindow) -> list[str]:
    return [box.text() for box in window.findChildren(QMessageBox)]


@pytest.mark.slow
def test_words_become_a_layer_and_the_window_answers_meanwhile(window: MainWindow) -> None:
    window.prompt.prompt.setPlainText("a red circle on a blue background")
    window.prompt.steps.setValue(6)
    window.generate()
    assert window._running
    turns = 0
    while window._running and turns < 6000:
        QTest.qWait(20)
        turns += 1
    assert not _messages(window)
    assert turns > 3, "the window's thread was free while the engine worked"
    layer = window._document.structure.layers[-1]
    assert isinstance(layer, GenerativeLayer)
    planes = composite(window._document, Bounds.at(0, 0, 128, 128))
    assert planes[:3].reshape(3, -1).std(axis=1).max() > 1000


@pytest.mark.slow
def test_cancel_leaves_the_document_as_it_was(window: MainWindow) -> None:
    window.prompt.prompt.setPlainText("a house")
    window.prompt.steps.setValue(1000)
    window.generate()
    _wait(lambda: window.prompt.bar.value() > 1, 120)
    window.prompt.stop.click()
    _wait(lambda: not window._running, 30)
    assert not _messages(window)
    assert len(window._document.structure.layers) == 2


def test_a_frame_that_is_too_small_is_said_in_words(window: MainWindow) -> None:
    with window._document.edit("frame") as edit:
        edit.set_frame(Bounds.at(0, 0, 16, 16))
    window.generate()
    assert any("too small" in text for text in _messages(window))
    assert not window._running


def test_a_document_is_saved_and_opened_again(window: MainWindow, tmp_path: Path) -> None:
    window.layers._add()
    before = composite(window._document, Bounds.at(0, 0, 128, 128))
    window.save_as(tmp_path / "a.ora")
    assert not window._document.is_modified
    window.open_file(tmp_path / "a.ora")
    assert len(window._document.structure.layers) == 3
    assert np.array_equal(composite(window._document, Bounds.at(0, 0, 128, 128)), before)


def test_a_picture_opens_as_a_document_of_its_size_and_is_exported_again(window: MainWindow, tmp_path: Path) -> None:
    window.export(tmp_path / "a.png")
    window.open_file(tmp_path / "a.png")
    window.export(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_a_file_that_is_none_is_said_in_words_and_the_document_stays(window: MainWindow, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    kept = window._document
    window._guarded(lambda: window.open_file(tmp_path / "a.png"))
    assert _messages(window)
    assert window._document is kept


def test_layers_are_shown_hidden_moved_and_taken_back(window: MainWindow) -> None:
    names = [layer.name for layer in window._document.structure.layers]
    window.layers._move(-1)
    assert [layer.name for layer in window._document.structure.layers] == names[::-1]
    window._document.undo()
    window.layers.opacity.setValue(40)
    assert window._document.structure.layers[-1].opacity == pytest.approx(0.4)
    assert [window.layers.list.item(row).text() for row in range(2)] == names[::-1]


def test_every_control_has_a_name_for_screen_readers(window: MainWindow) -> None:
    kinds = (QAbstractSpinBox, QComboBox, QPlainTextEdit, QSlider)
    silent = [type(w).__name__ for w in window.findChildren(QWidget) if isinstance(w, kinds) and not w.accessibleName()]
    buttons = [w for w in window.findChildren(QAbstractButton) if w.metaObject().className() == "QPushButton"]
    assert not silent
    assert buttons and all(b.text() or b.accessibleName() for b in buttons)
