"""`sfumato doctor`: what this machine can do, and what stands in the way."""

from __future__ import annotations

import argparse
from typing import Any

from sfumato.app import App
from sfumato.cli.checks import Check, all_checks, in_words, machine, versions
from sfumato.cli.output import add_json_option, print_json
from sfumato.errors import BadFileError
from sfumato.paths import Folders
from sfumato.settings import Settings, load_settings

NOTES = """
Exit code 0: all is well; 1: something stands in the way, and is marked with an exclamation mark.
"""

TRUST = """What you trust when you run Sfumato
  Plugins that you install with pip run inside this process, without any confinement: they can do whatever you can do. This
  version has no sandbox for them. Install only those whose authors you trust; `sfumato plugins list` shows what is loaded, and
  the environment variable SFUMATO_DISABLE_PLUGINS=all leaves out all that are not Sfumato's own.
  Models, workflows, pictures and settings are data: nothing in them is run. Pickled files (.ckpt, .pt, .bin), which could run
  code, are refused. Sfumato itself opens no network connection.
  Pictures carry their prompt, settings, and the paths of the pictures and models they were made from. To keep that to yourself,
  set `carry = false` under [pictures] in settings.toml, or remove the metadata before you share a picture."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing but how to say it."""
    parser.epilog = NOTES
    parser.add_argument("--trust", action="store_true", help="what is confined, and what is not")
    add_json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Look at everything; a fault in one place hides no other."""
    if options.trust:
        return _trust(options)
    app, settings_fault = _app()
    facts = {"versions": versions(), "machine": machine(app)}
    checks = list(all_checks(app, settings_fault))
    if options.json:
        print_json({**facts, "checks": [vars(check) for check in checks], "ok": all(check.ok for check in checks)})
    else:
        _print(facts, checks)
    return 0 if all(check.ok for check in checks) else 1


def _app() -> tuple[App, BadFileError | None]:
    """The kernel, with the defaults if the settings cannot be read."""
    folders = Folders.of_user()
    try:
        return App.make(folders, settings=load_settings(folders.settings_file)), None
    except BadFileError as error:
        return App.make(folders, settings=Settings()), error


def _trust(options: argparse.Namespace) -> int:
    app, _ = _app()
    strangers = [info for info in app.plugins.plugins if info.distribution != "sfumato" and info.state == "active"]
    if options.json:
        names = [{"name": info.name, "distribution": info.distribution, "file": info.file} for info in strangers]
        print_json({"confined": False, "words": " ".join(TRUST.split()), "plugins_of_others": names})
        return 0
    print(TRUST)
    print("\nPlugins of others that are loaded now: " + (", ".join(f"{info.name} ({info.file})" for info in strangers) or "none"))
    return 0


def _print(facts: dict[str, Any], checks: list[Check]) -> None:
    print("Versions")
    for name, version in facts["versions"].items():
        print(f"  {name:<18}{version}")
    print("Machine")
    for name, value in facts["machine"].items():
        print(f"  {name.replace('_', ' '):<18}{in_words(name, value)}")
    print("Checks")
    for check in checks:
        print(f"{' ' if check.ok else '!'} {check.name:<18}{check.words}")
        if check.remedy and not check.ok:
            print(f"  {'':<18}{check.remedy}")
