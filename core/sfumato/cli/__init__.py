"""The command line: `sfumato COMMAND`. One module a command; only the one that is called is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from sfumato.errors import CancelledError, MemoryExhaustedError, SfumatoError, UsageError

COMMANDS = {
    "generate": "make a picture from words",
    "run": "run a workflow",
    "replay": "make a picture again from what it carries",
    "sweep": "grids over any settings",
    "models": "the model files that are there, and what they are",
    "plugins": "the plugins that are installed",
    "desktop": "open the window",
    "doctor": "what this machine can do",
    "bench": "the benchmarks",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 bad usage, 3 bad file, 4 model missing, 5 out of memory, 130 cancelled."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["desktop"]
    # Spinning OpenMP threads cost more than they gain on a busy machine; the user's own setting wins.
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    if arguments is None and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        with _terminating_is_interrupting():
            code = _run(words)
            sys.stdout.flush()
            return code
    except SfumatoError as error:
        return _failed(error, words)
    except KeyboardInterrupt:
        return _failed(CancelledError(), words)
    except MemoryError:
        return _failed(MemoryExhaustedError("this machine has no memory left", "", "Make it smaller, or close other programs."), words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  a fault of ours: the user gets one line, and a file to send with a report
        from sfumato.cli.crash import report

        return _failed(report(error, words), words)


def _run(words: Sequence[str]) -> int:
    parser = _parser(words)
    try:
        options = parser.parse_args(words)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    return int(options.run(options))


def _failed(error: SfumatoError, words: Sequence[str]) -> int:
    print(f"sfumato: {error}", file=sys.stderr)
    if "--json" in words:
        from sfumato.cli.output import error_json, print_json

        print_json({"error": error_json(error)})
    return error.exit_code


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would end the program, so that every error is told in the same way."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "", f"See `{self.prog} --help`.")


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    import sfumato

    parser = _Parser("sfumato", description="Diffusion image generation: a studio and a toolkit.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"sfumato {sfumato.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    called = next((word for word in words if not word.startswith("-")), None)
    for name, help_words in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=help_words,
            description=help_words[0].upper() + help_words[1:] + ".",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == called:
            module: Any = importlib.import_module(f"sfumato.cli.{name}")
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser


@contextmanager
def _terminating_is_interrupting() -> Iterator[None]:
    """SIGTERM ends a command in the same order as Ctrl+C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
