"""The fixture that pytest finds by the entry point ``pytest11``. It imports nothing until it is
used: pytest loads it in every session of who has asynctrack installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from asynctrack._testing.model import ReplayModel


@pytest.fixture
def replayed() -> Callable[..., ReplayModel]:
    """Return what makes a chat model that answers from a logged Run: replayed("runs/jokes").

    Its arguments are those of ``asynctrack.testing.replay_model``.
    """
    from asynctrack.testing import replay_model

    return replay_model
