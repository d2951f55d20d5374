"""``s3_options`` for reading: the tracker's own word, checked as the tracker does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from asynctrack._options import Options

VARIABLE: Final = "ASYNCTRACK_S3_OPTIONS"


def resolve_s3_options(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return with which further arguments S3 is asked.

    Args:
        given: What the user gives; None takes ``ASYNCTRACK_S3_OPTIONS`` of the environment.

    Raises:
        OptionError: It is none of the arguments that a tracker takes.
    """
    # Other variables are the tracker's matter: a wrong one is no reason not to read.
    environ = {name: value for name, value in os.environ.items() if name == VARIABLE}
    keywords = {} if given is None else {"s3_options": given}
    return dict(Options.resolve(keywords, environ).s3_options or {})
