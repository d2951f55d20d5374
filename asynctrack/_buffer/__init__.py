"""The bounded queue between the callbacks and the engine.

In: encoded events from any thread or event loop. Out: pieces of consecutive events for a batch.
It numbers the events, counts them for the accounting equation, and makes callers wait or drop
when it is full. Handlers put (through the engine's sink); the engine takes.
"""
