"""From a LangChain callback to an event.

In: every callback that LangChain makes, in the user's threads and event loops, and what the user
logs. Out: the event's encoded bytes without secrets, for the buffer; and for the Run, what the
callbacks noticed on the way (``Observations``). It does no I/O and raises nothing.
LangChain calls the handlers; the tracker makes them.
"""
