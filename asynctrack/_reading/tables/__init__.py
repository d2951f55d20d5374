"""Spans and events to tables. Needs ``asynctrack[read]``.

In: traces, events, parameters.
Out: a pandas data frame, an Arrow table, DuckDB's tables ``spans``, ``events``, ``parameters``.
``run`` and ``experiment`` call it; ``query``, ``export`` and the viewer use its columns.
"""
