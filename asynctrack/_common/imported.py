"""Do something when a module has been imported, by whoever needs it, and not before.

For who wants to be there when a library is used, and not to load it into programs that never do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call a function once a module is there: now, or when somebody has imported it.

    Args:
        name: The module's whole name.
        then: What to call, in the thread that imports. What it raises, the import raises.
    """
    if name in sys.modules:
        then()
        return
    _awaited[name] = then
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


_awaited: dict[str, Callable[[], None]] = {}


class _Finder:
    """Finds modules that somebody waits for, where the others find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders say, with a loader that tells when it is done."""
        if name not in _awaited:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)  # those of old have none
            found: Any = None if finder is self or not find else find(name, path, target)
            if isinstance(found, ModuleSpec):
                found.loader = found.loader and _Telling(found.loader)
                return found
        return None


_finder: Final = _Finder()


class _Telling(Loader):
    """Loads as another loader does, gives it its place back, and tells that the module is there."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module, or None for an ordinary one."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        then = _awaited.pop(module.__name__, None)
        if not _awaited and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        if then is not None:
            then()
