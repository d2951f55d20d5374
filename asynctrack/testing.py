"""For tests of programs that track.

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
