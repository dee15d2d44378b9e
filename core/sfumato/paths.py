"""Where files live: one frozen record of folders, worked out from the user's system and created only when written to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HOME_VARIABLE = "SFUMATO_HOME"
"""Environment variable that puts all folders under one."""


@dataclass(frozen=True)
class Folders:
    """Absolute paths. None of them need exist: whoever writes creates (`sfumato.files.make_folder`), whoever reads finds nothing."""

    models: Path
    output: Path
    input: Path
    temp: Path
    settings: Path
    cache: Path

    @classmethod
    def of_user(cls, environment: Mapping[str, str] | None = None) -> Folders:
        """The folders of this user: under `SFUMATO_HOME` if it is set and not empty, else where the system keeps such things."""
        home = (os.environ if environment is None else environment).get(HOME_VARIABLE, "")
        if home:
            return cls.under(Path(home))
        dirs = platformdirs.PlatformDirs("sfumato", appauthor=False)
        data, cache = dirs.user_data_path.absolute(), dirs.user_cache_path.absolute()
        return cls(
            models=data / "models",
            output=data / "output",
            input=data / "input",
            temp=cache / "temp",
            settings=dirs.user_config_path.absolute(),
            cache=cache,
        )

    @classmethod
    def under(cls, home: Path) -> Folders:
        """All folders below `home` (`~` is understood), as a portable installation or a test wants them."""
        root = home.expanduser().absolute()
        names = ("models", "output", "input", "temp", "settings", "cache")
        return cls(**{name: root / name for name in names})

    @property
    def settings_file(self) -> Path:
        """Where the user's settings are kept."""
        return self.settings / "settings.toml"
