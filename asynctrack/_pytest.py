"""What pytest finds by the entry point ``pytest11``: a fixture. It imports nothing until it is
used: pytest loads it in every session of who has asynctrack installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from asynctrack._testing.model import ReplayModel


def pytest_configure(config: pytest.Config) -> None:
    """Have asynctrack imported as it is anywhere else.

    pytest rewrites assertions in whatever a plugin is installed with, and parses each module for
    it. If two threads do that at once, Python 3.11 may raise SystemError (gh-106905), in an import
    of a tracker's thread.
    """
    hook = getattr(config.pluginmanager, "rewrite_hook", None)
    marked = getattr(hook, "_must_rewrite", None)  # nothing public takes a name back
    if hook is not None and isinstance(marked, set):
        marked -= {name for name in marked if name.partition(".")[0] == "asynctrack"}
        hook.mark_rewrite()  # it forgets what it has decided


@pytest.fixture
def replayed() -> Callable[..., ReplayModel]:
    """Return what makes a chat model that answers from a logged Run: replayed("runs/jokes").

    Its arguments are those of ``asynctrack.testing.replay_model``.
    """
    from asynctrack.testing import replay_model

    return replay_model
