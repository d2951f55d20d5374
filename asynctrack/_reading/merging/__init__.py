"""Artifacts to one stream of events.

In: the artifacts of each writer, as ``sources`` lists them.
Out: their events in order, each once, with a report of what cannot be read; ``follow`` goes on
while the Run is being written.
``run``, ``verify``, ``compaction``, ``asynctrack tail`` and the viewer call it.
"""
