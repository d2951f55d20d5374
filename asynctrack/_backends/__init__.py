"""Where artifacts and records go: S3 and SageMaker, or a folder.

In: an object's name and content, parameters and metrics of a Run. Out: requests to AWS or files,
and one kind of error, which says whether a retry helps. Nothing is retried here.
The delivery stores artifacts, the recorder writes to the Run, replay and the read path open others.
"""
