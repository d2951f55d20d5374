"""Runs of MLflow: parameters and metrics go there, events to S3 or a folder as ever.

In: a run of MLflow or its ``mlflow://`` address, and what the recorder wants in it. Out: requests
through MLflow's own client library, which knows its servers, sign-ins and plugins. Only ``api``
imports it, in a thread of the engine's.
"""
