"""`sfumato desktop [FILE]`: the window. It is the plugin `desktop`'s; the command line only asks for it."""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato.cli import arguments
from sfumato.errors import PluginError


def configure(parser: argparse.ArgumentParser) -> None:
    """The window's options."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a document (.ora) or a picture to open")
    arguments.add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Open the window and wait until it is closed."""
    app = arguments.app_of(options)
    code = app.plugins.open_window(app, options.file)
    if code is None:
        raise PluginError("no plugin brings a window", "", "`sfumato plugins list` says what is installed and what is broken.")
    return code
