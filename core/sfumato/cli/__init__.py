"""The command line: `sfumato COMMAND`. One module a command; only the one that is called is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from sfumato.errors import SfumatoError

COMMANDS = {
    "generate": "make a picture from words",
    "run": "run a workflow",
    "replay": "make a picture again from what it carries",
    "sweep": "grids over any settings",
    "models": "the model files that are there, and what they are",
    "plugins": "the plugins that are installed",
    "doctor": "what this machine can do",
    "bench": "the benchmarks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad usage, 3 bad file, 4 model missing, 5 out of memory, 130 cancelled."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Spinning OpenMP threads cost more than they gain on a busy machine; the user's own setting wins.
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    try:
        options = _parser(words).parse_args(words)
        if options.command is None:
            _parser([]).print_help()
            return 0
        return int(options.run(options))
    except SfumatoError as error:
        print(f"sfumato: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sfumato: cancelled", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    import sfumato

    parser = argparse.ArgumentParser("sfumato", description="Diffusion image generation: a studio and a toolkit.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sfumato {sfumato.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    called = next((word for word in words if not word.startswith("-")), None)
    for name, help_words in COMMANDS.items():
        sub = commands.add_parser(name, help=help_words, description=help_words[0].upper() + help_words[1:] + ".", allow_abbrev=False)
        if name == called:
            module: Any = importlib.import_module(f"sfumato.cli.{name}")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser
