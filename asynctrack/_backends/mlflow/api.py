"""MLflow's own library, asked for the few things that are needed: the only module that imports it.

Blocks, and takes seconds the first time: called in threads only. A tracking server is asked by its
REST API through the library's one function for that, which signs in, and which is told here not to
try again by itself; nine attempts in four minutes would be a second layer of retries, of which
nobody knew. Other stores (a database, a folder) are asked by the interface of MLflow's plugins.
"""

from __future__ import annotations

import base64
import getpass
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from asynctrack._backends.mlflow.batches import LogBatch
from asynctrack._backends.mlflow.errors import map_answer, not_mlflow
from asynctrack._errors import BackendError, MissingExtraError, PausingError, TransientError

REQUEST_TIMEOUT: Final = 15.0
"""Seconds for connecting, and for each read."""
_PATH: Final = "/api/2.0/mlflow"
_PATH_3: Final = "/api/3.0/mlflow"
_MISSING: Final = "RESOURCE_DOES_NOT_EXIST"
_INTERNAL: Final = "INTERNAL_ERROR"


@dataclass(frozen=True, slots=True)
class RunFound:
    """A run as MLflow shows it.

    Attributes:
        run_id: Its id.
        experiment_id: Its experiment's id.
        name: Its name.
        artifact_uri: Where its artifacts are.
        deleted: Whether it is in MLflow's trash.
        params: Its parameters.
        tags: Its tags.
    """

    run_id: str
    experiment_id: str
    name: str
    artifact_uri: str
    deleted: bool
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Api(Protocol):
    """What is asked of MLflow. Blocks; raises ``BackendError``, or what the library raises."""

    def experiment_id(self, name: str) -> str | None:
        """Return the id of an experiment by its name or its id; None where there is none."""

    def create_experiment(self, name: str) -> str:
        """Make an experiment; return its id."""

    def latest_run(self, experiment_id: str, name: str) -> RunFound | None:
        """Return the latest run of that name that is not deleted."""

    def create_run(self, experiment_id: str, name: str) -> RunFound:
        """Make a run."""

    def run(self, run_id: str) -> RunFound:
        """Return a run."""

    def log(self, run_id: str, batch: LogBatch) -> None:
        """Log a batch."""

    def finish(self, run_id: str) -> None:
        """Say that a run has finished."""

    def endpoint(self) -> tuple[str, dict[str, str]]:
        """Return the server's address, and the headers that sign in there."""

    def assess(self, trace_id: str, assessment: Mapping[str, Any]) -> None:
        """Put an assessment on a trace, once however often it is called.

        Args:
            trace_id: MLflow's id of the trace.
            assessment: The assessment with its id, as MLflow's JSON has it.
        """


def require_mlflow(what: str) -> None:
    """Make sure that MLflow is installed; imports nothing.

    Args:
        what: What needs it.

    Raises:
        MissingExtraError: It is not.
    """
    if sys.modules.get("mlflow") is not None:
        return
    try:
        found = importlib.util.find_spec("mlflow")
    except (ImportError, ValueError):  # whoever finds modules here has refused
        found = None
    if found is None:
        raise MissingExtraError(what, "mlflow", "mlflow")


def connect(tracking: str | None) -> Api:
    """Return what asks a tracking server, or another store of MLflow's. Imports MLflow.

    Args:
        tracking: The tracking URI; None for the one that MLflow takes by itself.

    Raises:
        Exception: Whatever MLflow raises.
    """
    import mlflow
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking or mlflow.get_tracking_uri())
    store = client._tracking_client.store
    return _Rest(store) if isinstance(store, RestStore) else _Local(store)


class _Rest:
    """A tracking server, also one of AWS's or of a plugin's."""

    def __init__(self, store: Any) -> None:
        from mlflow.utils.rest_utils import http_request

        self._request: Any = http_request
        self._credentials = store.get_host_creds

    def experiment_id(self, name: str) -> str | None:
        found = self._get("experiments/get-by-name", "experiment_name", name)
        if found is None and name.isdecimal():
            found = self._get("experiments/get", "experiment_id", name)
        if found is None:
            return None
        experiment = found["experiment"]
        return _not_deleted(str(experiment["experiment_id"]), experiment.get("lifecycle_stage"))

    def create_experiment(self, name: str) -> str:
        return str(self._ask("POST", "experiments/create", {"name": name})["experiment_id"])

    def latest_run(self, experiment_id: str, name: str) -> RunFound | None:
        body = {
            "experiment_ids": [experiment_id],
            "filter": run_filter(name),
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 1,
            "order_by": ["attributes.start_time DESC"],
        }
        runs = self._ask("POST", "runs/search", body).get("runs") or []
        return _found(runs[0]) if runs else None

    def create_run(self, experiment_id: str, name: str) -> RunFound:
        user = _user()
        body = {
            "experiment_id": experiment_id,
            "run_name": name,
            "user_id": user,
            "start_time": int(time.time() * 1000),
            "tags": [{"key": "mlflow.user", "value": user}],
        }
        return _found(self._ask("POST", "runs/create", body)["run"])

    def run(self, run_id: str) -> RunFound:
        return _found(self._ask("GET", "runs/get", {"run_id": run_id})["run"])

    def log(self, run_id: str, batch: LogBatch) -> None:
        body: dict[str, Any] = {"run_id": run_id, "run_uuid": run_id}
        for kind in ("params", "tags", "metrics"):
            body[kind] = [dict(one) for one in getattr(batch, kind)]
        self._ask("POST", "runs/log-batch", body)

    def finish(self, run_id: str) -> None:
        body = {"run_id": run_id, "status": "FINISHED", "end_time": int(time.time() * 1000)}
        self._ask("POST", "runs/update", body)

    def endpoint(self) -> tuple[str, dict[str, str]]:
        found = self._credentials()
        if found.auth or found.aws_sigv4:
            raise PausingError(
                "NoTraces",
                "this server wants each request signed, which OpenTelemetry's exporter does not",
                advice="Leave traces=True out.",
            )
        return str(found.host), signature(found.username, found.password, found.token)

    def assess(self, trace_id: str, assessment: Mapping[str, Any]) -> None:
        path = f"traces/{trace_id}/assessments"
        try:
            self._ask("POST", path, {"assessment": assessment}, base=_PATH_3)
        except TransientError as error:
            # An id that is there already is an internal error in MLflow's words.
            if error.code != _INTERNAL:
                raise
            try:
                self._ask("GET", f"{path}/{assessment['assessment_id']}", {}, base=_PATH_3)
            except BackendError:
                raise error from None

    def _get(self, path: str, name: str, value: str) -> Any:
        try:
            return self._ask("GET", path, {name: value})
        except BackendError as error:
            if error.code == _MISSING:
                return None
            raise

    def _ask(self, method: str, path: str, body: Mapping[str, Any], base: str = _PATH) -> Any:
        answer = self._request(
            self._credentials(),
            f"{base}/{path}",
            method,
            max_retries=0,
            retry_codes=(),  # else an answer with one of these becomes an error without its text
            timeout=REQUEST_TIMEOUT,
            raise_on_status=False,
            **{"params" if method == "GET" else "json": body},
        )
        if answer.status_code != 200:
            raise map_answer(answer.status_code, answer.headers, answer.text, time.time())
        try:
            said = json.loads(answer.text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise not_mlflow("HTTP 200, and no JSON object")
        return said


class _Local:
    """A store in this process: a database, a folder, a plugin's."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def experiment_id(self, name: str) -> str | None:
        found = self._store.get_experiment_by_name(name)
        if found is None and name.isdecimal():
            try:
                found = self._store.get_experiment(name)
            except Exception as error:
                if getattr(error, "error_code", None) != _MISSING:
                    raise
        return found and _not_deleted(str(found.experiment_id), found.lifecycle_stage)

    def create_experiment(self, name: str) -> str:
        return str(self._store.create_experiment(name, None, []))

    def latest_run(self, experiment_id: str, name: str) -> RunFound | None:
        from mlflow.entities import ViewType

        order = ["attributes.start_time DESC"]
        runs = self._store.search_runs(
            [experiment_id], run_filter(name), ViewType.ACTIVE_ONLY, 1, order
        )
        return _found(runs[0].to_dictionary()) if runs else None

    def create_run(self, experiment_id: str, name: str) -> RunFound:
        from mlflow.entities import RunTag

        user = _user()
        tags = [RunTag("mlflow.user", user)]
        run = self._store.create_run(experiment_id, user, int(time.time() * 1000), tags, name)
        return _found(run.to_dictionary())

    def run(self, run_id: str) -> RunFound:
        return _found(self._store.get_run(run_id).to_dictionary())

    def log(self, run_id: str, batch: LogBatch) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._store.log_batch(
            run_id,
            [
                Metric(one["key"], float(one["value"]), one["timestamp"], one["step"])
                for one in batch.metrics
            ],
            [Param(**one) for one in batch.params],
            [RunTag(**one) for one in batch.tags],
        )

    def finish(self, run_id: str) -> None:
        from mlflow.entities import RunStatus

        now, status = int(time.time() * 1000), RunStatus.from_string("FINISHED")
        self._store.update_run_info(run_id, status, now, None)

    def endpoint(self) -> tuple[str, dict[str, str]]:
        raise PausingError("NoTraces", "no server", advice="Leave traces=True out.")

    def assess(self, trace_id: str, assessment: Mapping[str, Any]) -> None:
        self.endpoint()


def signature(username: str | None, password: str | None, token: str | None) -> dict[str, str]:
    """Return the header that signs in, as MLflow's client makes it; empty where nothing is given.

    Args:
        username: The user's name.
        password: The password.
        token: A token, which counts where there is no user.
    """
    if username and password:
        pair = base64.standard_b64encode(f"{username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Bearer {token}"} if token else {}


def run_filter(name: str) -> str:
    """Return MLflow's filter for the runs of a name, which has one kind of quotes at the most."""
    quote = '"' if "'" in name else "'"
    return f"attributes.run_name = {quote}{name}{quote}"


def _not_deleted(experiment_id: str, stage: Any) -> str:
    if stage == "deleted":
        raise PausingError(
            "ExperimentDeleted",
            f"the experiment {experiment_id} is deleted in MLflow",
            advice="Restore it (mlflow.MlflowClient().restore_experiment(id)), or name another.",
            answered=True,
        )
    return experiment_id


def _found(run: Mapping[str, Any]) -> RunFound:
    """Read a run as JSON has it, or as ``Run.to_dictionary`` returns it."""
    info, data = run["info"], run.get("data") or {}
    return RunFound(
        run_id=str(info["run_id"]),
        experiment_id=str(info["experiment_id"]),
        name=str(info.get("run_name") or ""),
        artifact_uri=str(info.get("artifact_uri") or ""),
        deleted=info.get("lifecycle_stage") == "deleted",
        params=_pairs(data.get("params")),
        tags=_pairs(data.get("tags")),
    )


def _pairs(some: Any) -> dict[str, str]:
    if isinstance(some, Mapping):
        return {str(key): str(value) for key, value in some.items()}
    return {str(one["key"]): str(one.get("value", "")) for one in some or ()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # of an id that has no name
        return "unknown"
