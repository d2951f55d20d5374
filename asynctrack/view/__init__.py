"""``asynctrack view``: Runs on a local web page.

::

    folder, S3, spool ─► _news ─► _feed ─► _index ─► _queries ─► _pages ─► _server ─► page
                      what is new  _rows  (DuckDB)   _filters    _blocks   _security
                      _indexer drives them in a thread           _shapes, _pytest_case

``_serve`` puts them together, ``_token`` keeps the address. The page itself is in ``static``:
nothing is loaded from elsewhere. Needs ``asynctrack[view]``.
"""
