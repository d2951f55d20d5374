"""Accepted events on disk, until the store has acknowledged them.

In: the buffer's events, one write for each, and where they belong. Out: segments, from which
batches are read; after a crash the next tracker, or ``asynctrack spool``, reads the same files.
The engine keeps it supplied with segments; replay and the read path read what is left.
"""
