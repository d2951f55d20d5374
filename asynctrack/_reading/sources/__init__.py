"""Where a Run is and what is there of it.

In: what the user names (an address, a folder, names, a ``Run``), and how to reach AWS.
Out: ``Found`` (the places of a Run) and ``Listing`` (its manifests and artifacts), also of what
waits in this machine's spool, of dead letters and of compacted segments.
``run``, ``experiment``, ``verify`` and ``overview`` call it; ``merging`` reads what it lists.
"""
