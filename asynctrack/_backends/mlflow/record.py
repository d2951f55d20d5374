"""What a run of MLflow records: parameters, metrics, and where its events are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from asynctrack._backends.mlflow.address import MlflowTarget
from asynctrack._backends.mlflow.api import Api, RunFound
from asynctrack._backends.mlflow.batches import LogBatch, cut
from asynctrack._backends.mlflow.errors import map_error, run_is_deleted
from asynctrack._backends.mlflow.server import server
from asynctrack._backends.protocol import Service
from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._errors import BackendError, PermanentError

ABOUT_US: Final = re.compile(r"asynctrack\.(?:events|manifest|more_parameters)(?:\.\d+)?")
"""What asynctrack says of itself: tags, as it is about no model."""
EVENTS: Final = re.compile(r"asynctrack\.events(?:\.\d+)?")
"""The tags that say where events are."""


class MlflowRecord:
    """Parameters and metrics of a run. Asks for the run when it is first needed.

    Args:
        target: The run.
    """

    service: Service = "MLflow"

    def __init__(self, target: MlflowTarget) -> None:
        self.run = target
        self._server = server(target.tracking)
        self._joining: asyncio.Task[RunFound] | None = None
        self._found: RunFound | None = None

    @property
    def target(self) -> str:
        """Return the run's address."""
        return self.run.address

    @property
    def ready(self) -> bool:
        """Return True: each request opens what it needs."""
        return True

    @property
    def loading(self) -> bool:
        """Whether MLflow is being imported."""
        return self._server.loading

    async def begin(self) -> None:
        """Import MLflow and find the run, or make it."""
        with suppress(BackendError):  # the first request says what is wrong
            await self.found()

    async def found(self) -> RunFound:
        """Return the run, which is made where there is none of that name.

        Raises:
            BackendError: MLflow does not answer, or says no.
        """
        if self._found is not None:
            return self._found
        # Those who want it at the same time wait for one answer; who is cancelled leaves it to
        # the others.
        if self._joining is None or self._joining.done():
            self._joining = asyncio.create_task(self._join())
            self._joining.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._joining)

    async def _join(self) -> RunFound:
        found = await self._server.call(lambda api: self._server.join(api, self.run))
        self._found = found
        return found

    async def state(self) -> RunState:
        """Return the run's parameters, and the tags that say where its events are."""
        run_id = (await self.found()).run_id
        now = await self._server.call(lambda api: _alive(api, run_id))
        ours = {key: value for key, value in now.tags.items() if ABOUT_US.fullmatch(key)}
        return RunState({**now.params, **ours}, {}, frozenset())

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        """Log parameters, and what asynctrack says of itself as tags. Nothing is ever removed."""
        run_id = (await self.found()).run_id
        tags = {key: str(value) for key, value in parameters.items() if ABOUT_US.fullmatch(key)}
        params = {key: str(value) for key, value in parameters.items() if key not in tags}
        refused: PermanentError | None = None
        for batch in cut(params, tags):
            refused = await self._log(run_id, batch) or refused
        if refused is not None:
            raise refused

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Log points. MLflow keeps the same point once, however often it comes."""
        run_id = (await self.found()).run_id
        for batch in cut({}, {}, points):
            try:
                await self._server.call(lambda api: api.log(run_id, batch))  # noqa: B023  # awaited
            except PermanentError:
                await self._server.call(lambda api: _alive(api, run_id))
                raise
        return NotTaken()

    async def aclose(self) -> None:
        """End a run that was made here, when the last of its trackers closes."""
        found, self._found = self._found, None
        if found is not None:
            await self._server.call(lambda api: self._server.leave(api, found.run_id))

    def local(self) -> Mapping[str, Any]:
        """Return nothing: MLflow's own object sends each value at once."""
        return {}

    def mirror(self, written: Iterable[Written]) -> None:
        """Do nothing, for the same reason."""

    async def _log(self, run_id: str, batch: LogBatch) -> PermanentError | None:
        """Log a batch, and where it is refused all of it that is not; return the refusal."""
        try:
            await self._server.call(lambda api: api.log(run_id, batch))
        except PermanentError as error:
            if batch.entries == 1:
                return error
            await self._server.call(lambda api: _alive(api, run_id))
            first, second = batch.halves()
            refusals = [await self._log(run_id, first), await self._log(run_id, second)]
            return next((one for one in refusals if one is not None), None)
        return None


def _alive(api: Api, run_id: str) -> RunFound:
    """Return the run as it is now.

    Raises:
        BackendError: It is deleted, or cannot be asked for.
    """
    try:
        now = api.run(run_id)
    except BackendError:
        raise
    except Exception as error:
        raise map_error(error) from error
    if now.deleted:
        raise run_is_deleted(run_id)
    return now
