"""Commands as a user runs them: in processes of their own, in folders of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_MANY = """
import contextlib, io, json, sys
from sfumato.cli import main
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass(frozen=True)
class Ran:
    """What a command gave: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of stdout, as `--json` promises it."""
        return json.loads(self.out.splitlines()[-1])


@dataclass(frozen=True)
class Terminal:
    """Runs commands in `folder`; `home` holds the user's folders."""

    folder: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        return {**kept, "SFUMATO_HOME": str(self.home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}

    def start(self, *words: object, before: str = "") -> subprocess.Popen[str]:
        """A command in a process of its own; `before` is Python that runs in it first."""
        code = f"import sys\n{before}\nfrom sfumato.cli import main\nsys.exit(main())"
        command = [sys.executable, "-c", code, *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, cwd=self.folder, env=self.environment, **pipes)  # type: ignore[call-overload,no-any-return]

    def run(self, *words: object, before: str = "") -> Ran:
        """The same, waited for."""
        with self.start(*words, before=before) as process:
            out, err = process.communicate(timeout=300)
            return Ran(process.returncode, out, err)

    def run_all(self, commands: Sequence[Sequence[object]]) -> list[Ran]:
        """Several commands in one process, because starting one costs seconds."""
        text = json.dumps([[str(word) for word in words] for words in commands])
        done = subprocess.run(
            [sys.executable, "-c", _MANY], input=text, capture_output=True, text=True, cwd=self.folder, env=self.environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return [Ran(*json.loads(line)) for line in done.stdout.splitlines()]

    def left(self) -> set[str]:
        """Everything that lies in the folder."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """One for each file of stories."""
    folder, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("home")
    (home / "settings").mkdir()
    (home / "settings" / "settings.toml").write_text('[engine]\ndevice = "cpu"\nprecision = "float32"\n')
    return Terminal(folder, home)
