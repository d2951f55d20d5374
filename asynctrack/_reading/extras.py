"""The libraries of the extra ``read``: pandas, pyarrow, duckdb; imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any, Final

from asynctrack._errors import MissingExtraError

EXTRA: Final = "read"


def load(what: str, package: str) -> Any:
    """Import a package of the extra.

    Args:
        what: What needs it, for the error.
        package: The package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(what, package, EXTRA) from error
