"""Events to trees of spans, and what they tell.

In: the events of a Run, in order.
Out: ``Trace`` and ``Span``; of them what calls cost, a Run in numbers, two Runs compared.
``run`` builds them; ``tables``, ``export``, the commands and the viewer read them.
"""
