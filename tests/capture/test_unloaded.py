"""What stands in for a tracker that cannot be loaded takes the same calls as one that can."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from asynctrack import AsyncHandler, SyncHandler
from asynctrack._capture.unloaded import Unloaded


@pytest.mark.parametrize(
    ("kind", "base"), [(AsyncHandler, "AsyncCallbackHandler"), (SyncHandler, "BaseCallbackHandler")]
)
def test_it_has_what_a_handler_has(kind: Any, base: str) -> None:
    """No public method of a handler is missing, and what must be awaited is the same."""
    handler = Unloaded(OSError("no descriptor")).enter(base)
    for name, method in inspect.getmembers(kind, callable):
        if name[0] != "_":
            stand_in = getattr(handler, name)
            assert inspect.iscoroutinefunction(stand_in) == inspect.iscoroutinefunction(method)


def test_what_users_call_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A block of a session is entered as ever; what is logged is dropped and counted."""
    with Unloaded(OSError("no descriptor")) as handler:
        with handler.session(user_id="ada") as session:
            handler.log_feedback("a-trace", "thumbs", 1, comment="nice")
            handler.log_metric("score", 0.5)
        assert (session.user_id, session.trace_id) == ("ada", None)
        assert handler.statistics().dropped == {"not_loaded": 2}
    assert "nothing is tracked" in caplog.text


async def test_code_of_the_users_own_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Spans, tracked functions and what is logged do nothing there but count."""
    async with Unloaded(OSError("no descriptor")) as handler:
        with handler.span("one", inputs=1) as span:
            span.outputs = 2
        async with handler.span("two"):
            handler.log("x", 1)

        def double(value: int) -> int:
            return value * 2

        assert handler.tracked(double) is handler.tracked(name="d")(double) is double
    assert handler.statistics().dropped == {"not_loaded": 5}
