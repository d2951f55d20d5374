"""What several packages need and that knows none of them.

Values that they hand to each other (``artifact``), plain data from any object (``convert``,
``payload``, ``marker``), waits before a retry, warnings that do not repeat themselves, tasks that
belong together, and blocking work off the event loop (``offload``). Everybody calls it; it imports
nothing above it.
"""
