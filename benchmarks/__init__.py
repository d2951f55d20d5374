"""What tracking costs, measured: ``python -m benchmarks.run``.

::

    cases     the workloads, one table for all scripts
    tracers   what is compared: no handler, empty handlers, asynctrack, its peers
    overhead  CPU and wall time each tracer adds to a callback, in interleaved rounds
    garbage   what collections cost, with and without gc.freeze()
    instructions  what each handler adds, counted by valgrind: the same on a busy machine
    callbacks each callback inside asynctrack, and one of 350 bytes
    tokens    a streamed token beside the empty inline handler
    stages    each stage of the write path beside its floor; instructions with --callgrind
    lag       event-loop lag, start and close included; S3 well, hanging or failing
    scale     10^3 to 10^6 events: cost, memory, requests, bytes, dollars; sustained rate
    many      1 to 1,000 trackers at once and one after another; opening the first
    values    large values: a graph's state, an image in a conversation, texts of 100 KB and 5 MB
    life      the whole life of a tracker: fixed cost and cost for each callback
    compression  zstd's settings by time and size
    import_time
    profile   the hot path under a profiler
    run       all of it, into results/ with report.md and plots
    gate      the short form for CI, with generous bounds on ratios

Only ratios and differences of one run on one machine are compared; see ``_measure``.
"""
