"""The window's process never imports torch: not to paint for the first time, not to have its controls filled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_the_window_paints_without_torch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
