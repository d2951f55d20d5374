"""What answers need of the tables: rows, of all traces or of those that somebody chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Asks(Protocol):
    """Answers statements over ``inside.traces``, ``inside.spans`` and ``inside.all_feedback``."""

    def rows(
        self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows of a statement, by column. Blocks.

        Args:
            sql: The statement; nothing that was logged or asked for is ever part of it.
            values: Its values.
        """
