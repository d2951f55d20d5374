"""What asynctrack's logger says while a command runs: on standard error, as text.

Without a handler Python prints such warnings as they are, and they name what others have written:
keys, reasons. Commands that list what could not be read themselves get none of these twice.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ._screen import printable


class _Notes(logging.Handler):
    def __init__(self, *, problems: bool) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._problems or not _is_problem(record):
                text = record.getMessage().removeprefix("asynctrack ")
                print(f"asynctrack: {printable(text, lines=False)}", file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def notes(*, problems: bool) -> Iterator[None]:
    """Print the logger's warnings while this lasts.

    Args:
        problems: Whether those of what could not be read are among them.
    """
    logger = logging.getLogger("asynctrack")
    handler = _Notes(problems=problems)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _is_problem(record: logging.LogRecord) -> bool:
    from asynctrack._reading.sources.manifests import Problem

    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(one, Problem) for one in arguments)
