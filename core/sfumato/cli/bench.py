"""`sfumato bench`: the benchmarks, one after the other, each with its figures beside their targets."""

from __future__ import annotations

import argparse
import importlib
import time
from typing import Any

from sfumato.bench import NAMES
from sfumato.bench.figures import table
from sfumato.cli.output import add_json_option, print_json

NOTES = """
Benchmarks: start (commands), engine (overhead over diffusers), loading (memory for a checkpoint of 2 GB), embedded (what the
pictures of the embedded model show), validation (malformed workflows), inpaint (what
is kept, matched, and painted into a hole). A missed target is told, and is no failure of the command.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones, and how much of them."""
    parser.epilog = NOTES
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *NAMES], help=f"{', '.join(NAMES)}; all of them without a name")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="embedded: how many captions (200)")
    parser.add_argument("--cases", type=int, default=20, metavar="N", help="inpaint: how many holes are filled (20; the target is for 100)")
    parser.add_argument("--rounds", type=int, metavar="N", help="engine: how often everything is repeated (12)")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run them in order."""
    found: dict[str, Any] = {}
    for name in options.names or NAMES:
        benchmark = importlib.import_module(f"sfumato.bench.{name}")
        start = time.perf_counter()
        found[name] = {**benchmark.run(options), "seconds": round(time.perf_counter() - start, 1)}
        if not options.json:
            print(table(name, benchmark.WORDS, found[name]), flush=True)
    if options.json:
        print_json({"benchmarks": found})
    return 0
