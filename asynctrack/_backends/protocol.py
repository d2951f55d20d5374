"""What a backend is, where artifacts and manifests go, and what a record is: what a Run keeps."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from asynctrack._common.artifact import MetricPoint, NotTaken, ParameterValue, RunState, Written
from asynctrack._errors import ReadError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it.

    Attributes:
        key: Its key in the store.
        size: Its size, in bytes.
    """

    key: str
    size: int


class GoneError(ReadError):
    """The object is not there (any more)."""


class Store(Protocol):
    """Where objects go."""

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object; the same call again stores the same object."""


Service = Literal["SageMaker", "MLflow"]
"""Who keeps a Run, and so whose limits hold for what it records."""


class Record(Protocol):
    """The parameters and metrics of one Run, and where it says that its events are.

    Every method but ``local`` and ``mirror`` is called in the worker's event loop only. They raise
    nothing but ``BackendError``: whatever the libraries below raise is mapped at this boundary.
    """

    service: Service

    @property
    def target(self) -> str:
        """The Run that is written to, which the trackers of a process share."""

    @property
    def ready(self) -> bool:
        """Whether the Run can be written to; it may be while its events' place is not open."""

    @property
    def loading(self) -> bool:
        """Whether a library is being imported for it: that takes seconds, and is no trouble."""

    async def begin(self) -> None:
        """Load what it needs and look for the Run, ahead of the first request; raises nothing."""

    async def state(self) -> RunState:
        """Return what the Run holds now."""

    async def update(
        self,
        parameters: Mapping[str, ParameterValue],
        artifacts: Mapping[str, str],
        remove: Sequence[str] = (),
    ) -> None:
        """Merge parameters and output artifacts (names to addresses) into the Run.

        Args:
            parameters: Keys and values.
            artifacts: Names and addresses.
            remove: Keys of parameters to be removed.
        """

    async def put_metrics(self, points: Sequence[MetricPoint]) -> NotTaken:
        """Send points; return those that were not taken."""

    async def aclose(self) -> None:
        """Say that no more comes. May be called when nothing was ever written."""

    def local(self) -> Mapping[str, Any]:
        """Return the parameters in the user's Run object, which it sends when it ends.

        May be called in any thread; asks no network. The mapping may be the object's own.
        """

    def mirror(self, written: Iterable[Written]) -> None:
        """Bring what was written into the user's Run object; on the thread that owns it."""


class Backend(Protocol):
    """Where the artifacts and manifests of one Run go, and its record, which may be elsewhere.

    Every method is called in the worker's event loop only, but where it says otherwise, and raises
    nothing but ``BackendError``.
    """

    experiment: str
    run: str
    record: Record | None
    """None where nothing but the manifest holds parameters and metrics."""

    @property
    def located(self) -> bool:
        """Whether addresses are known."""

    @property
    def way(self) -> Hashable:
        """What those that reach the same store alike share: an upload gate, and who can replay
        what. Known once it is open. May keep the user's session alive, so do not keep it for good.
        """

    async def open(self) -> None:
        """Get ready for requests. May be called again after it failed."""

    def uri(self, name: str = "") -> str:
        """Return the address of an object below the Run's folder; known once it is open."""

    def destination(self) -> Mapping[str, Any]:
        """Return where artifacts go, as plain data without secrets, for a later replay.

        May be called at any time and in any thread; blocks for nothing. Before it is open it
        says what is known by then.
        """

    def elsewhere(self, destination: Mapping[str, Any], experiment: str, run: str) -> Store | None:
        """Return a store for what ``destination`` of another writer gave, through the same client.

        Args:
            destination: What it gave; incomplete where the writer died before it was open. What
                is missing is found out at the store's first put.
            experiment: That writer's experiment.
            run: That writer's Run.

        Returns:
            The store; None where this backend does not reach it.
        """

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object below the Run's folder; the same call again stores the same object."""

    async def aclose(self) -> None:
        """Close connections. May be called when it was never opened."""
