"""Set once, used everywhere: installed trackers in what users build with, and in where that runs.

What needs programs of others besides the extra ``test`` is in ``tests/places``.
"""
