"""The values that one package hands to the next: Batch, Artifact, Receipt, MetricPoint, …"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ParameterValue = float | str
"""A Run parameter as AWS takes it: a finite number or a string."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events cut together, in the order they were accepted.

    Attributes:
        writer_id: Who accepted them.
        first_seq: Sequence number of the first event.
        last_seq: Sequence number of the last event.
        raw: Their lines.
    """

    writer_id: str
    first_seq: int
    last_seq: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Artifact:
    """One encoded batch: one object, its key and bytes fixed before the first attempt.

    Attributes:
        name: Key below the Run's folder.
        content: The object's bytes.
        crc32: Checksum of the content, for S3 to compare with what arrived.
        sha256: Digest of the content in hex, for the manifest.
        first_seq: Sequence number of the first event.
        last_seq: Sequence number of the last event.
        raw_bytes: Size before compression, in bytes.
    """

    name: str
    content: bytes
    crc32: int
    sha256: str
    first_seq: int
    last_seq: int
    raw_bytes: int

    @property
    def events(self) -> int:
        """How many events it holds."""
        return self.last_seq - self.first_seq + 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """What remains of an artifact after the backend has acknowledged it."""

    name: str
    first_seq: int
    last_seq: int
    bytes: int
    raw_bytes: int
    sha256: str

    @classmethod
    def of(cls, artifact: Artifact) -> Receipt:
        """Return the receipt for an artifact."""
        return cls(
            artifact.name,
            artifact.first_seq,
            artifact.last_seq,
            len(artifact.content),
            artifact.raw_bytes,
            artifact.sha256,
        )


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of a metric.

    Attributes:
        name: The metric's name.
        value: A number; a finite one for SageMaker.
        time_unix_nano: When it was measured.
        step: The iteration it belongs to, 0 or more.
    """

    name: str
    value: float
    time_unix_nano: int
    step: int


@dataclass(frozen=True, slots=True)
class RunState:
    """What a Run already holds, as far as a writer must respect it.

    Attributes:
        parameters: Its parameters.
        output_artifacts: Names and values of its output artifacts.
        announced: Names of parameters that the user's Run object sends when it ends.
    """

    parameters: Mapping[str, ParameterValue]
    output_artifacts: Mapping[str, str]
    announced: frozenset[str]


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Metric points that a service did not take.

    Attributes:
        again: Points to send again.
        refused: Points that it refuses for good.
    """

    again: Sequence[MetricPoint] = ()
    refused: Sequence[MetricPoint] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A parameter of the user's that was written without the Run object.

    Attributes:
        key: Its key.
        value: What was written.
        before: What the Run object held under this key when the user logged it.
    """

    key: str
    value: ParameterValue
    before: Any
