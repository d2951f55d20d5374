"""Spans and events to tables. Needs ``asynctrack[read]``.

In: traces, events.
Out: a pandas data frame, an Arrow table, DuckDB's table ``spans``; the columns of ``export``.
``run`` and ``experiment`` call it; the index has the same columns and more.
"""
