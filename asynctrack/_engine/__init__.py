"""One worker for the process: one thread, one event loop, all trackers.

In: events from the handlers, and what the user asks of a tracker (flush, close). Out: calls of
the other packages, which know nothing of each other's order: supply the spool, cut batches,
deliver them, write to the Run, close by the deadline. It also deals with forks, signals and the
interpreter's exit. ``tracker(...)`` starts it.
"""
