"""From a batch to an object in the store.

In: pieces of the buffer, and what writers that have died left in the spool. Out: one compressed
object for each batch, a receipt for the recorder, or events counted as refused for good.
Requests to one endpoint pass a gate, which adapts how many run at a time and when to retry.
The engine calls it.
"""
