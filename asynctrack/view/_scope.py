"""The answers that the command line has of whole Runs, of the traces that a page chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ._index import Index

_CHOSEN: Final = "(SELECT * FROM inside.{0} WHERE _no IN (SELECT no FROM traces WHERE {1}))"


class Scope:
    """The tables ``inside.traces`` and ``inside.spans``, with the chosen traces only.

    Args:
        index: The index.
        where: Conditions on the pages' ``traces``, as of ``Filters.where``.
        values: Their values.
    """

    def __init__(self, index: Index, where: str, values: Mapping[str, Any]) -> None:
        self._index = index
        self._values = values
        self._tables = {
            f"inside.{table}": _CHOSEN.format(table, where) for table in ("traces", "spans")
        }

    def rows(
        self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows of a statement, by column. Blocks.

        Args:
            sql: A statement of asynctrack's own over whole tables; its values have names.
            values: Its values.
        """
        narrowed = sql
        for table, chosen in self._tables.items():
            narrowed = narrowed.replace(table, chosen)
        given = dict(values)
        # DuckDB takes no value that a statement does not name.
        return self._index.query(narrowed, {**self._values, **given} if narrowed != sql else given)
