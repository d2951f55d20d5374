"""What names a run of MLflow, and where its events go: pure functions, MLflow is not imported."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from asynctrack._errors import OptionError
from asynctrack._format import is_valid_name

SCHEME: Final = "mlflow://"
TRACKING_URI: Final = "MLFLOW_TRACKING_URI"
S3_ENDPOINT: Final = "MLFLOW_S3_ENDPOINT_URL"
"""Where MLflow reaches S3, by its own variable, if it is not AWS's own."""

_ID: Final = re.compile(r"[0-9a-f]{32}")
_USERINFO: Final = re.compile(r"(?<=://)(?:[^/\s]*@|[^:/@\s]*:(?!\d{1,5}/)\S*@)")
"""User and password, which may have an @ in it, and in a database's address a slash."""
_QUERY: Final = re.compile(r"\?\S*")
_ALLOWED: Final = "mlflow://experiment/run, each by its name or its id"


@dataclass(frozen=True, slots=True)
class MlflowTarget:
    """Which run of MLflow.

    Attributes:
        tracking: The tracking URI; None asks MLflow which one it uses. May hold a password.
        experiment: The experiment's name or id; empty where the run's id says it all.
        run: The run's name or id.
        run_id: The run's id, where it is known.
        artifact_uri: Where the run's artifacts are, where that is known.
    """

    tracking: str | None
    experiment: str
    run: str
    run_id: str | None = None
    artifact_uri: str | None = None

    @property
    def address(self) -> str:
        """The run in words and in one piece, without secrets."""
        named = self.run_id or f"{self.experiment}/{self.run}"
        return f"mlflow:{without_secrets(self.tracking or 'default')}#{named}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where events go.

    Attributes:
        bucket: S3 bucket, or empty.
        path: Key prefix in the bucket, or a folder's whole path.
    """

    bucket: str
    path: str


def looks_like_mlflow_run(value: Any) -> bool:
    """Tell whether a value is a run of MLflow's: if MLflow is not imported, nothing is."""
    kind = getattr(sys.modules.get("mlflow.entities.run"), "Run", None)
    return kind is not None and isinstance(value, kind)


def is_mlflow_address(value: Any) -> bool:
    """Tell whether a value is an ``mlflow://`` address."""
    return isinstance(value, str) and value.startswith(SCHEME)


def target_of(run: Any) -> MlflowTarget:
    """Return which run a user means. Asks no network.

    Args:
        run: A run of MLflow's, or an ``mlflow://`` address.

    Raises:
        OptionError: It is no address of a run.
    """
    if not isinstance(run, str):
        info = run.info
        return MlflowTarget(
            _tracking_uri(),
            str(info.experiment_id),
            str(info.run_name or info.run_id),
            str(info.run_id),
            str(info.artifact_uri or "") or None,
        )
    experiment, _, name = run[len(SCHEME) :].rpartition("/")
    experiment, name = unquote(experiment), unquote(name)
    if not (experiment and name) or ("'" in name and '"' in name):
        raise OptionError("run", run, _ALLOWED)
    return MlflowTarget(_tracking_uri(), experiment, name, name if _ID.fullmatch(name) else None)


def layout_names(target: MlflowTarget) -> tuple[str, str]:
    """Return experiment and Run as they stand in keys: names as they are where keys can have them.

    A name of a run's object is no address, as several may have it: its id goes with it.
    """
    run = target.run
    if target.run_id and target.run_id != run:
        run = f"{run}-{target.run_id[:8]}"
    return _key_name(target.experiment), _key_name(run)


def place_of_artifacts(artifact_uri: str) -> Place | None:
    """Return where a run's artifacts are, as a place for events.

    Returns:
        None where only MLflow's server reaches it (``mlflow-artifacts:``), or nobody here knows it.
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme == "s3" and parts.netloc:
        return Place(parts.netloc, unquote(parts.path).strip("/"))
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Place("", unquote(parts.path))
    if not parts.scheme and artifact_uri:
        return Place("", Path(artifact_uri).absolute().as_posix())
    return None


def without_secrets(uri: str) -> str:
    """Return an address without user, password and query."""
    return _QUERY.sub("", _USERINFO.sub("", uri))


def with_secrets(uri: str | None) -> str | None:
    """Return the tracking URI that ``without_secrets`` was made of, where the environment has it.

    Args:
        uri: What is stored.
    """
    here = _tracking_uri()
    return here if uri is None or (here and without_secrets(here) == uri) else uri


def _tracking_uri() -> str | None:
    """Return the tracking URI that the program uses; None where only MLflow can tell."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "is_tracking_uri_set"):  # or not all of it is here
        return os.environ.get(TRACKING_URI) or None
    # Else it is MLflow's default, for which it looks at files.
    return str(mlflow.get_tracking_uri()) if mlflow.is_tracking_uri_set() else None


def _key_name(name: str) -> str:
    if is_valid_name(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:100]
    return f"{plain or 'run'}-{digest}"
