"""The way back: from what lies in S3, in a folder or in the spool to events, spans and tables.

::

    sources ─► merging ─► trees ─► tables ─► run ─► export, query, compaction
       decoding

    sources     what the user names ─► the places of a Run, its manifests, artifacts, spool
    decoding    bytes ─► events, each checked
    merging     artifacts ─► one stream of events, in order, each once
    trees       events ─► spans and traces; their cost, their summary, what differs
    tables      spans and events ─► pandas, Arrow, DuckDB
    run, experiment             what the user holds: a Run, and all Runs of an experiment
    overview, verify, query     what ``asynctrack ls``, ``verify`` and ``query`` answer
    export, compaction          a Run ─► one file; its segments ─► Parquet files beside them

It meets the write path at the format only (``_format``, ``segment_format``, ``layout``).
"""
