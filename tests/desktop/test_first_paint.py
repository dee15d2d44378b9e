"""The window's process never imports torch: not to paint for the first time, not to have its controls filled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from sfumato.app import App
from sfumato.paths import Folders
from sfumato_desktop.main_window import MainWindow, new_document

application = QApplication([])
app = App.make(Folders.under(Path(sys.argv[1])), cpu=True)
window = MainWindow(app, app.backend("child"), new_document(256))
window.show()
image = window.grab()
assert image.width() > 600
window.bridge.close()
window._document.saved("", window._document.snapshot())
window.close()
print(sorted({"torch", "diffusers", "transformers"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_the_window_paints_without_torch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_without_a_display_the_command_says_so_in_words(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    environment["SFUMATO_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-m", "sfumato.cli"], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    if sys.platform.startswith("linux"):
        assert done.returncode == 1
        assert "there is no display" in done.stderr
        assert "Traceback" not in done.stderr
