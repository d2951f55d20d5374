"""What a notebook, a debugger and ``print`` show of a tracker and its handlers."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.runnables import RunnableLambda

from asynctrack import tracker
from asynctrack._capture.unloaded import Unloaded
from asynctrack.compat import SageMakerCallbackHandler
from tests.reading.test_shown import safe


def test_a_tracker_and_its_handler_say_what_they_did(tmp_path: Path) -> None:
    """Both say where they track to and what they counted, as a line and as a table."""
    tracking = tracker(tmp_path, experiment_name="jokes", run_name="one")
    assert repr(tracking) == "<asynctrack.Tracker jokes/one new>"
    assert "Tracker of jokes/one, new" in safe(tracking._repr_html_()).text
    with tracking as handler:
        RunnableLambda(str).invoke(1, {"callbacks": [handler]})
        assert handler.flush(30)
        assert repr(handler) == "<SyncHandler of jokes/one: 2 events accepted, 2 delivered>"
        assert repr(tracking) == (
            "<asynctrack.Tracker jokes/one open: 2 events accepted, 2 delivered>"
        )
        page = safe(handler._repr_html_())
        assert "SyncHandler of jokes/one" in page.text
        assert "accepted2delivered2waiting0artifacts1" in page.text
    assert "jokes/one, closed" in safe(tracking._repr_html_()).text


@pytest.mark.anyio
async def test_an_asynchronous_handler_says_it_too(tmp_path: Path) -> None:
    """The handler of ``async with`` is shown the same way, in the event loop."""
    async with tracker(tmp_path, experiment_name="jokes", run_name="one") as handler:
        assert repr(handler) == "<AsyncHandler of jokes/one: 0 events accepted>"
        assert "AsyncHandler of jokes/one" in safe(handler._repr_html_()).text


def test_the_old_handler_says_it_too(tmp_path: Path) -> None:
    """The handler with the old name has its name in what it says."""
    handler = SageMakerCallbackHandler(tmp_path, experiment_name="jokes", run_name="one")
    try:
        assert repr(handler).startswith("<SageMakerCallbackHandler of jokes/one: 0 events")
    finally:
        handler.close()


def test_a_handler_that_was_not_loaded_says_so() -> None:
    """What stands in for a handler is no riddle."""
    assert "not loaded" in repr(Unloaded(OSError()).enter("BaseCallbackHandler"))
