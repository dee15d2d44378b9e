"""The program with the window: Qt, the kernel and the main window put together. torch is never imported in this process."""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6.QtWidgets import QApplication

from sfumato.app import App
from sfumato.errors import SfumatoError
from sfumato_desktop import theme
from sfumato_desktop.main_window import MainWindow, new_document

SIDE = 512
"""Side of the document that is open at first, in pixels."""


def open_window(kernel: App, file: Path | None = None) -> int:
    """Show the window and run until it is closed; returns the exit code."""
    application = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(application, QApplication)
    theme.apply(application, "dark")
    window = MainWindow(kernel, kernel.backend("child"), new_document(SIDE))
    window.show()
    if file is not None:
        try:
            window.open_file(file)
        except SfumatoError as error:
            window.show_error(error)
    return application.exec()
