"""For tests of programs that track.

A logged Run answers in place of its models, offline::

    def test_a_joke(replayed):
        chain = make_chain(replayed("runs/jokes"))
        assert "fish" in chain.invoke({"topic": "fish"})

``replayed`` is a fixture of pytest's, which asynctrack brings; ``replay_model`` is the same without
pytest.

The worker of a process stays some seconds for the next tracker, with its connections. Tests that
look for threads or sockets that are left over, or for a warning that an earlier test has had
already, end it after each test::

    @pytest.fixture(autouse=True)
    def engine():
        yield
        asynctrack.testing.end_engine()
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynctrack._options import Redact
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.sources.locate import Source
    from asynctrack._testing.model import ReplayModel

__all__ = ["end_engine", "replay_model"]


def end_engine(timeout: float = 5.0) -> bool:
    """End the worker of this process now; the next tracker starts another one.

    Args:
        timeout: Seconds to wait for it at the most.

    Returns:
        Whether it has ended. False where a tracker is still open: it ends after that then.

    Example:
        >>> from asynctrack.testing import end_engine
        >>> end_engine()
        True
    """
    engine = sys.modules.get("asynctrack._engine.engine")
    before = None if engine is None else engine.replace()
    thread = None if before is None else before.end_soon()
    if thread is None:
        return True
    thread.join(timeout)
    return not thread.is_alive()


def replay_model(
    run: RecordedRun | Source,
    *,
    model: str | None = None,
    name: str | None = None,
    redact: Redact | None = None,
    **where: Any,
) -> ReplayModel:
    """Return a chat model that answers from a logged Run: what was asked there, as it was answered.

    It looks for a logged call with equal messages and tools of equal names; ids, token counts and
    other parameters do not matter. Where several were asked the same, they answer in logged order,
    and the last one again after that. Answers come with usage, tool calls, finish reason and the
    model's name; streams in as many pieces as there were tokens, without waiting. It works with
    ``bind_tools``, ``with_structured_output``, ``create_agent`` and LangGraph, in sync and async
    code.

    The Run is read before the first answer. Then the model raises ``NotLoggedError`` where nothing
    was logged that is asked the same, with the nearest logged prompt and what differs, and
    ``ReplayedError`` where the logged call failed.

    Args:
        run: The Run, or where it is: an address, a folder, ``(experiment, run)``.
        model: Only calls of this model; None takes those of all.
        name: Only calls of this component, ``ChatOpenAI`` for example; None takes those of all.
        redact: What the tracker had as ``redact``, if it had any: it is cut out of what is asked,
            too, before that is compared with the log.
        **where: Further arguments of ``open_run``, such as ``root``.

    Raises:
        OptionError: An argument is not allowed.
        NotFoundError: There is no Run.
        SeveralRunsError: There are several.
        AsynctrackError: As ``open_run``.

    Example:
        >>> from asynctrack import tracker
        >>> from asynctrack.testing import replay_model
        >>> from langchain_core.language_models import FakeListChatModel
        >>> with tracker("runs") as handler:
        ...     model = FakeListChatModel(responses=["Hello, Ada."])
        ...     answer = model.invoke("I am Ada", {"callbacks": [handler]})
        >>> replay_model("runs").invoke("I am Ada").text
        'Hello, Ada.'
    """
    from asynctrack._reading.run import RecordedRun, open_run
    from asynctrack._testing.calls import Calls
    from asynctrack._testing.model import ReplayModel

    recorded = run if isinstance(run, RecordedRun) else open_run(run, **where)
    return ReplayModel.of(Calls(recorded, model, name, redact))
