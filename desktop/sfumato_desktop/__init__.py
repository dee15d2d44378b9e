"""The window: PySide6 over a core that knows no Qt. Itself a plugin: it answers the hook `open_window`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfumato.errors import PluginError
from sfumato.hookspecs import hookimpl


@hookimpl
def open_window(app: Any, file: Path | None) -> int:
    """Qt is imported here and not before: a server never loads it."""
    try:
        from sfumato_desktop.app import open_window as show
    except ImportError as error:
        raise PluginError(f"Qt cannot be loaded: {error}", "window", "Install its system packages; the README names them.") from error
    return show(app, file)
