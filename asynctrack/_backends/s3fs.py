"""For programs that read S3 with s3fs (pandas, Dask, DuckDB): certificates count there, too."""

from __future__ import annotations

from typing import Any

from asynctrack._errors import MissingExtraError


def storage_options(**config: Any) -> dict[str, Any]:
    """Return options for s3fs with which it verifies whom it speaks to, as boto3 does.

    s3fs stands on aiobotocore, and aiobotocore 2 takes any certificate behind a proxy, and without
    one a certificate for any other name. They go where fsspec's options go:
    ``pandas.read_json(…, storage_options=…)``, ``fsspec.filesystem("s3", **…)``, Dask.

    Args:
        **config: Further arguments of botocore's ``Config``.

    Raises:
        MissingExtraError: s3fs is not installed.
    """
    try:
        from asynctrack._backends.http import VerifiedSession
    except ImportError as error:
        raise MissingExtraError("s3fs", "aiobotocore", "read") from error
    return {"config_kwargs": {**config, "http_session_cls": VerifiedSession}}
