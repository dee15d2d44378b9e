"""`sfumato plugins list`: what is installed, what it offers, and what is broken and why."""

from __future__ import annotations

import argparse
from typing import Any

from sfumato.cli.output import add_json_option, print_json
from sfumato.plugin_manager import PluginInfo, PluginManager


def configure(parser: argparse.ArgumentParser) -> None:
    """The one verb that there is, which may be left out."""
    parser.set_defaults(verb="list")
    _add_options(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    _add_options(verbs.add_parser("list", help="all plugins, and what they offer"), default=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """List them. That some are broken is an answer, not a failure."""
    manager = PluginManager()
    plugins = manager.load()
    if options.json:
        print_json({"plugins": [_json(info) for info in plugins], "duplicates": [vars(each) for each in manager.duplicates]})
        return 0
    for info in plugins:
        print("\n".join(_lines(info, options.traceback)))
    for each in manager.duplicates:
        print(f"{each.kind} {each.name!r} of {each.ignored} is not used: {each.used} offers it too")
    return 0


def _add_options(parser: argparse.ArgumentParser, default: Any = False) -> None:
    parser.add_argument("--traceback", action="store_true", default=default, help="all that is known of what is broken")
    add_json_option(parser, default)


def _lines(info: PluginInfo, with_traceback: bool) -> list[str]:
    whose = f"{info.distribution} {info.version}".strip()
    lines = [f"{info.name}  {info.state}  ({whose})" if whose else f"{info.name}  {info.state}", f"  {info.file}"]
    lines += [f"  {kind.replace('_', ' ')}: {_named(names)}" for kind, names in info.offers.items()]
    lines += [f"  {line}" for line in info.error.splitlines()]
    return lines + ([f"  {line}" for line in info.traceback.splitlines()] if with_traceback else [])


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"


def _json(info: PluginInfo) -> dict[str, Any]:
    return {**vars(info), "offers": {kind: list(names) for kind, names in info.offers.items()}}
