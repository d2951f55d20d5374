"""OpenTelemetry: traces to a receiver of its protocol, live or of a Run; our counters as metrics.

The tracker plugs ``live`` into the way of the data: it is handed each artifact once, assembles
traces of them in a thread of its own, and sends those that have ended through OpenTelemetry's own
exporter. ``asynctrack export --to`` sends a Run in the same way. Nothing else here knows
OpenTelemetry, and nothing of it is imported in a loop of the user's.
"""
