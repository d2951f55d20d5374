"""The way back: from what lies in S3, in a folder or in the spool to events, spans and tables.

::

    _open, _sources       what the user names ─► the places of Runs
    _listing, _manifests  a place ─► its objects, and what its writers say of them
    _spooled, _compacted  the same of what waits on this machine, and of what was compacted
    _merge, _decode       objects ─► events, checked, in order, each once
    _trace, _span         events ─► trees of spans
    _tables, _database    spans ─► pandas, Arrow, DuckDB
    _read, _experiment    what the user holds: a Run, and all Runs of an experiment
    _verify, _follow, _overview, _compare, _export…, _query, _compact   what the commands do

It meets the way there at the format only (``_format``, ``segment_format``, ``layout``).
"""
