"""The index: Runs as tables, kept beside the user's cache, so that a question takes a moment.

In: a Run's artifacts, and what waits in the spool.
Out: DuckDB's tables ``traces``, ``spans``, ``events``, ``feedback`` and ``parameters``.
``query``, ``summary`` and the commands ask them; the viewer looks on while a Run grows.

What is delivered becomes Parquet files, each artifact once; only new ones are read the next time.
What can still change (open traces, the spool) is read anew for each question.
"""
