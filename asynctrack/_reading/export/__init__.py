"""A Run to one file: Parquet, JSON lines, CSV, OpenTelemetry, HTML.

In: a ``RecordedRun``.
Out: bytes, written to an open file as a stream.
``asynctrack export`` calls it.
"""
