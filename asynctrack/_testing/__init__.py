"""A logged Run answers in place of its models, for tests of the chains that it was logged of.

In: a ``RecordedRun``.
Out: a chat model of LangChain's, as ``asynctrack.testing`` offers it.
"""
