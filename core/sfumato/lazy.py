"""Modules that load at first use, so that schemas, the catalogue and the command line start without torch.

A node's module writes::

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy_module("torch")
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    """Stands for the module `__name__` until one of its names is asked for, then answers from the real one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def lazy_module(name: str) -> ModuleType:
    """A stand-in for the module `name` (absolute, dotted) that is imported when one of its attributes is first read."""
    return _LazyModule(name)
