"""Bytes to events. Nothing that is read here is trusted.

In: the bytes of an artifact, a segment of the spool, rows of a Parquet file.
Out: ``Event`` for each sound line, ``Damage`` for each other one.
``media`` tells what an image or another file in a payload is, for all that shows payloads.
``merging`` decodes artifacts with it, ``sources`` segments, dead letters and compacted rows.
"""
