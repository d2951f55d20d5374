"""Asks the index of Runs."""

from __future__ import annotations

from typing import Any

from asynctrack._reading.index.tables import open_tables
from asynctrack._reading.run import RecordedRun


def ask(run: RecordedRun, sql: str, **more: Any) -> list[tuple[Any, ...]]:
    """The rows of an answer."""
    with open_tables([run], **more) as tables:
        return tables.connection.execute(sql).fetchall()  # type: ignore[no-any-return]
