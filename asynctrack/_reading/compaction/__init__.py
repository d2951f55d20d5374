"""Many small segments to few Parquet files, stored beside them.

In: the place of a Run.
Out: verified Parquet files with a manifest each, and a report; segments are deleted only if asked.
``asynctrack compact`` calls it; ``sources.compacted`` reads what it wrote.
"""
