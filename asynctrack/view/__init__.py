"""``asynctrack view``: Runs on a local web page.

::

    the index ─► _feed ─► _index ─► _queries ─► _pages ─► _server ─► page
    (_reading)            (DuckDB)  _filters    _shapes   _security
                                    _scope      _blocks, _tree, _sessions, _compare, …
    _indexer drives it in a thread

``_feed`` takes what is indexed of a Run, and what has come since; ``_question`` is what a page
waits for, and may give up. ``_serve`` puts them together, ``_token`` keeps the address. The
page itself is in ``static``: nothing is loaded from elsewhere. Needs ``asynctrack[view]``.
"""
