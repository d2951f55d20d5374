"""A tracking server, shared by all that write to its runs or read them: which run, and requests.

Requests block, so the worker makes them in threads that nothing else uses: a server that hangs
holds up neither a disk nor another server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import anyio

from asynctrack._backends.mlflow.address import MlflowTarget, without_secrets
from asynctrack._backends.mlflow.alone import alone
from asynctrack._backends.mlflow.api import Api, RunFound, connect
from asynctrack._backends.mlflow.errors import map_error, run_is_deleted
from asynctrack._common.garbage import full_collections
from asynctrack._common.importing import gate
from asynctrack._common.offload import offload
from asynctrack._errors import NotFoundError, PausingError, PermanentError

ATTEMPT_TIMEOUT: Final = 60.0
"""Seconds for one attempt in all; the first one imports MLflow."""
_T = TypeVar("_T")


class MlflowServer:
    """A tracking server, or another store of MLflow's.

    Args:
        tracking: The tracking URI; None for the one that MLflow takes by itself.
    """

    def __init__(self, tracking: str | None) -> None:
        self._tracking = tracking
        self._lock = threading.Lock()
        self._api: Api | None = None
        self.loading = False
        """Whether MLflow is being imported."""
        self._finding = threading.Lock()
        self._writers: dict[str, int] = {}
        self._made: set[str] = set()

    # -- in the worker's loop -----------------------------------------------------------------

    async def call(self, ask: Callable[[Api], _T]) -> _T:
        """Ask the server: one attempt, in a thread and within its time.

        Args:
            ask: Does it.

        Raises:
            BackendError: Whatever went wrong, mapped.
        """
        try:
            with anyio.fail_after(ATTEMPT_TIMEOUT):
                return await offload(lambda: ask(self.api()), abandon_on_cancel=True, lane=id(self))
        except Exception as error:
            raise map_error(error) from error

    # -- in any thread; these block -----------------------------------------------------------

    def api(self) -> Api:
        """Return what asks it; imports MLflow the first time."""
        with self._lock:
            if self._api is None:
                self.loading = True
                try:
                    with gate.importing(), full_collections.held_up():
                        self._api = connect(self._tracking)
                finally:
                    self.loading = False
            return self._api

    def find(self, api: Api, target: MlflowTarget) -> RunFound:
        """Return a run that is there.

        Raises:
            NotFoundError: There is none.
            BackendError: MLflow said no.
        """
        if target.run_id is not None:
            found = api.run(target.run_id)
            if target.experiment != found.experiment_id != api.experiment_id(target.experiment):
                raise NotFoundError(
                    f"the run {target.run_id} is in MLflow's experiment {found.experiment_id}, and"
                    f" not in {target.experiment!r}"
                )
            return found
        experiment_id = api.experiment_id(target.experiment)
        found_run = experiment_id and api.latest_run(experiment_id, target.run)
        if not found_run:
            raise NotFoundError(
                f"MLflow knows no run {target.run!r} of an experiment {target.experiment!r} at"
                f" {without_secrets(self._tracking or 'its default place')}"
            )
        return found_run

    def join(self, api: Api, target: MlflowTarget) -> RunFound:
        """Return a run to write to, made where there is none of that name; each wants a ``leave``.

        One at a time, on this machine: those that name the same new run get the same one.

        Raises:
            BackendError: MLflow said no, or the run cannot be written to.
        """
        with self._finding:
            try:
                found = self.find(api, target)
            except NotFoundError as error:
                if target.run_id is not None:
                    raise PausingError("OtherExperiment", str(error)) from error
                found = self._find_or_make(api, target)
            if found.deleted:
                raise run_is_deleted(found.run_id)
            self._writers[found.run_id] = self._writers.get(found.run_id, 0) + 1
        return found

    def leave(self, api: Api, run_id: str) -> None:
        """Say that no more comes of one that has joined: the last one ends a run that was made."""
        with self._finding:
            self._writers[run_id] = left = self._writers.get(run_id, 1) - 1
            if left <= 0:
                self._writers.pop(run_id)
                if run_id not in self._made:
                    return
                self._made.discard(run_id)
            else:
                return
        api.finish(run_id)

    def _find_or_make(self, api: Api, target: MlflowTarget) -> RunFound:
        with alone(self._tracking or ""):
            try:
                return self.find(api, target)  # another process has made it meanwhile
            except NotFoundError:
                return self._make(api, target)

    def _make(self, api: Api, target: MlflowTarget) -> RunFound:
        experiment_id = api.experiment_id(target.experiment)
        if experiment_id is None:
            try:
                experiment_id = api.create_experiment(target.experiment)
            except Exception as error:
                mapped = map_error(error)
                another_did = isinstance(mapped, PermanentError) and api.experiment_id(
                    target.experiment
                )
                if not another_did:
                    raise mapped from error
                experiment_id = another_did
        made = api.create_run(experiment_id, target.run)
        self._made.add(made.run_id)
        return made


def server(tracking: str | None) -> MlflowServer:
    """Return what all of this process share that reach the same server."""
    # A forked child has its own: a thread of the parent may hold a lock at that moment.
    return _servers.setdefault((os.getpid(), tracking), MlflowServer(tracking))


_servers: Final[dict[tuple[int, str | None], MlflowServer]] = {}
