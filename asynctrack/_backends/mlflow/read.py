"""Reading a run of MLflow: what it holds, and where its events are. Blocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from asynctrack._backends.mlflow.address import S3_ENDPOINT, Place, place_of_artifacts, target_of
from asynctrack._backends.mlflow.api import RunFound, require_mlflow
from asynctrack._backends.mlflow.errors import map_error
from asynctrack._backends.mlflow.record import EVENTS
from asynctrack._backends.mlflow.server import server
from asynctrack._backends.s3_read import with_retries
from asynctrack._errors import AsynctrackError, BackendError, NotFoundError
from asynctrack._format import LAYOUT_VERSION

_FOLDER = f"/asynctrack/v{LAYOUT_VERSION}/experiment="


@dataclass(frozen=True, slots=True)
class MlflowRunState:
    """What MLflow holds of a run.

    Attributes:
        name: The run in words.
        parameters: Its parameters.
        events: ``s3://`` addresses and folders of its events, one for each place they were tracked
            into.
        artifacts: Where its artifacts are, as the place of its events where none is named.
    """

    name: str
    parameters: Mapping[str, Any]
    events: tuple[str, ...]
    artifacts: Place | None


def ask_for_mlflow_run(run: Any) -> MlflowRunState:
    """Ask MLflow for a run. Imports MLflow, which takes seconds.

    Args:
        run: A run of MLflow's, or an ``mlflow://`` address.

    Raises:
        OptionError: It is no address of a run.
        NotFoundError: MLflow does not know it.
        MissingExtraError: MLflow is not installed.
        BackendError: MLflow said no.
    """
    target = target_of(run)
    require_mlflow("Reading a run of MLflow")
    there = server(target.tracking)

    def ask() -> RunFound:
        try:
            return there.find(there.api(), target)
        except AsynctrackError:
            raise
        except Exception as error:
            raise map_error(error) from error

    try:
        found = with_retries(ask)
    except NotFoundError:
        raise
    except BackendError as error:
        if error.code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError(f"MLflow knows no run {target.run!r} ({error})") from error
        if error.advice and error.advice not in str(error):
            error.args = (f"{str(error).rstrip('.')}. {error.advice}",)
        raise
    events = [value for key, value in sorted(found.tags.items()) if EVENTS.fullmatch(key)]
    return MlflowRunState(
        name=f"mlflow://{target.experiment}/{target.run}",
        parameters=found.params,
        events=tuple(dict.fromkeys(uri for uri in events if _is_place(uri))),
        artifacts=place_of_artifacts(found.artifact_uri),
    )


def s3_endpoint(given: str | None) -> str | None:
    """Return where S3 is for what MLflow keeps there, if it is not AWS's own.

    Args:
        given: What the user says.
    """
    return given or os.environ.get(S3_ENDPOINT) or None


def _is_place(uri: str) -> bool:
    # Anybody may write into the run: only what a tracker would write is taken for a place.
    return uri.startswith("s3://") or (PurePath(uri).is_absolute() and _FOLDER in uri)
