"""Registration of the method with PEFT, as soon as PEFT is imported; PEFT has no entry point for methods of others."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PEFT = "peft"
METHOD = "adamix_train.peft_method.model"
"""Module that registers the method."""
OWN = (METHOD, "adamix_train.peft_method.config", "adamix_train.peft_method.layer")
"""Modules that import PEFT themselves, on the way to the registration."""


def register() -> None:
    """Register the method now if PEFT is imported, otherwise when it is: torch is not imported before it is needed."""
    if PEFT in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    if not any(name in sys.modules for name in OWN):
        import_module(METHOD)


class _Finder(MetaPathFinder):
    """Finds PEFT once, and registers the method after it has run."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != PEFT:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs a module as its own loader does, and registers the method."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.own.exec_module(module)
        _register()
