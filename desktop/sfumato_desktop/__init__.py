"""The window: PySide6 over a core that knows no Qt. Itself a plugin: it answers the hook `open_window`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sfumato.errors import PluginError
from sfumato.hookspecs import hookimpl


@hookimpl
def open_window(app: Any, file: Path | None) -> int:
    """Qt is imported here and not before: a server never loads it."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")):
        raise PluginError(
            "there is no display to open a window on", "window", "Start it on a desktop, or use the other commands: `sfumato --help`."
        )
    try:
        from sfumato_desktop.app import open_window as show
    except ImportError as error:
        raise PluginError(f"Qt cannot be loaded: {error}", "window", "Install its system packages; the README names them.") from error
    return show(app, file)
