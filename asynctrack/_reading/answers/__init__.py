"""Answers: what users ask of Runs, each a few statements over the index's tables.

In: the tables of one Run (``index.tables``). Out: frozen dataclasses, for the command line, the
viewer and Python.
"""
