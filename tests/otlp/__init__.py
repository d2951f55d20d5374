"""Traces to receivers of OpenTelemetry's protocol, and our counters as its metrics."""
