"""The SageMaker SDK, whichever is installed: that of sagemaker-core (sagemaker 3), or sagemaker 2.

Importing it takes seconds, warns, and configures the root logger: never on an event loop.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final, NamedTuple

#: What is imported from where; the first that is there counts.
_PLACES: Final = (
    (
        "sagemaker.core.experiments.run",
        "sagemaker.core.helper.session_helper",
        "sagemaker.core.analytics",
    ),
    ("sagemaker.experiments.run", "sagemaker.session", "sagemaker.analytics"),
)


class SageMakerSDK(NamedTuple):
    """What is used of the SDK.

    Attributes:
        Run: A Run of an experiment.
        Session: The SDK's session.
        ExperimentAnalytics: Makes the data frame of an experiment.
    """

    Run: Any
    Session: Any
    ExperimentAnalytics: Any


@functools.cache
def sagemaker_sdk() -> SageMakerSDK:
    """Import the SDK.

    Raises:
        ModuleNotFoundError: None is installed.
    """
    newest, older = _PLACES
    try:
        return _imported(*newest)
    except ModuleNotFoundError as error:
        if error.name != "sagemaker.core":
            raise  # none at all, or one that lacks something itself
    return _imported(*older)


def _imported(run: str, session: str, analytics: str) -> SageMakerSDK:
    return SageMakerSDK(
        importlib.import_module(run).Run,
        importlib.import_module(session).Session,
        importlib.import_module(analytics).ExperimentAnalytics,
    )
