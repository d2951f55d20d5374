"""LangChain events into your own S3 bucket and SageMaker Experiments.

The way of an event is the listing of this folder::

    _capture/    callback to event: handlers, redaction, spans     in your threads and loops
    _buffer/     the bounded queue of a tracker
    _spool/      on disk until the store has acknowledged it
    _delivery/   batch to artifact to S3; replay of what was left
    _record/     what the Run and the manifest get
    _engine/     the one worker of the process, which drives all of these
    _otlp/       finished traces to a receiver of OpenTelemetry's, where asked for
    _backends/   S3 and SageMaker, or a folder
    _common/     what is below all of it
    _testing/    a logged Run answers in place of its models, in tests

``_format`` is the contract with everything that reads what was written. The way back,
``open_run(source)``, is apart from all this, in ``_reading``; ``cli`` and ``view`` show what it
reads. ``testing`` is for tests of programs that track.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # refused once the interpreter ends
import importlib
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from asynctrack._capture.installed import Installed, install
from asynctrack._capture.sessions import Session, session
from asynctrack._capture.unloaded import Unloaded, is_environments
from asynctrack._errors import (
    AsynctrackError,
    BackendError,
    ChecksumError,
    MissingExtraError,
    NotFoundError,
    NotLoggedError,
    OptionError,
    PausingError,
    PermanentError,
    ReadError,
    ReplayedError,
    RunError,
    SeveralRunsError,
    StateError,
    TransientError,
)
from asynctrack._statistics import Statistics

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from asynctrack._backends.s3fs import storage_options
    from asynctrack._capture.handlers import AsyncHandler, SyncHandler
    from asynctrack._capture.log_records import LogHandler, StructlogProcessor
    from asynctrack._capture.plain import log, span, tracked
    from asynctrack._capture.tracked_span import TrackedSpan
    from asynctrack._options import (
        Compression,
        Durability,
        Install,
        Overflow,
        Redact,
        Root,
        Sample,
        Tokens,
    )
    from asynctrack._reading.decoding.events import Event
    from asynctrack._reading.decoding.feedback import Feedback
    from asynctrack._reading.experiment import RecordedExperiment, aopen_experiment, open_experiment
    from asynctrack._reading.run import RecordedRun, aopen_run, open_run
    from asynctrack._reading.sources.dead_letters import DeadLetter
    from asynctrack._reading.trees.span import Span
    from asynctrack._reading.trees.trace import Trace
    from asynctrack._reading.verify import averify, verify
    from asynctrack._reading.verify_report import Report
    from asynctrack._tracker import Tracker

__all__ = [
    "AsyncHandler",
    "AsynctrackError",
    "BackendError",
    "ChecksumError",
    "DeadLetter",
    "Event",
    "Feedback",
    "Installed",
    "LogHandler",
    "MissingExtraError",
    "NotFoundError",
    "NotLoggedError",
    "OptionError",
    "PausingError",
    "PermanentError",
    "ReadError",
    "RecordedExperiment",
    "RecordedRun",
    "ReplayedError",
    "Report",
    "Root",
    "RunError",
    "Session",
    "SeveralRunsError",
    "Span",
    "StateError",
    "Statistics",
    "StructlogProcessor",
    "SyncHandler",
    "Trace",
    "TrackedSpan",
    "Tracker",
    "TransientError",
    "aopen_experiment",
    "aopen_run",
    "averify",
    "install",
    "log",
    "open_experiment",
    "open_run",
    "session",
    "span",
    "storage_options",
    "tracked",
    "tracker",
    "verify",
]

__version__ = "0.1.0"

_MIB: Final = 1024 * 1024
_Declared = TypeVar("_Declared", bound="Callable[..., Tracker]")


def _with_given(declared: _Declared) -> _Declared:
    """Make trackers as a function declares them, with the options that are given and no others:
    one that is left out may be in the environment."""

    @wraps(declared)
    def make(run: Any, **options: Any) -> Tracker:
        try:
            from asynctrack._common.importing import gate

            with gate.importing():
                from asynctrack._tracker import make_tracker
        except Exception as error:
            if not is_environments(error):
                raise
            return cast("Tracker", Unloaded(error))
        return make_tracker(run, options)

    return cast("_Declared", make)


@_with_given
def tracker(
    run: Any,
    *,
    durability: Durability = "process",
    spool_dir: str | os.PathLike[str] | None = None,
    max_spool_bytes: int = 1024 * _MIB,
    overflow: Overflow | None = None,
    block_timeout: float | None = None,
    max_buffer_bytes: int = 64 * _MIB,
    max_buffer_events: int = 100_000,
    max_batch_bytes: int = 8 * _MIB,
    max_batch_events: int = 20_000,
    max_delay: float = 5.0,
    upload_concurrency: int = 4,
    close_timeout: float = 30.0,
    close_patience: float = 4.0,
    close_on_sigterm: bool = False,
    bucket: str | None = None,
    prefix: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    s3_options: Mapping[str, Any] | None = None,
    compression: Compression = "zstd",
    redact: Redact | None = None,
    max_value_bytes: int | None = None,
    tokens: Tokens = "stream",
    experiment_name: str | None = None,
    run_name: str | None = None,
    session_keys: str | Sequence[str] = (),
    user_keys: str | Sequence[str] = (),
    install: Install = False,
    sample: Sample = 1.0,
    keep_errors: bool = False,
    otlp: str | bool | None = None,
    traces: bool = False,
) -> Tracker:
    """Track LangChain into a Run: ``async with tracker(run) as handler:``, or ``with``.

    An option that is left out comes from ``ASYNCTRACK_<NAME>`` in the environment, or else is the
    default.

    Args:
        run: A ``Run`` of sagemaker 2.x or 3.x; a run of MLflow, or ``mlflow://experiment/run``,
            which is made where there is none; or, without a Run, the path of a folder or
            ``s3://bucket/prefix``.
        durability: What accepted events survive: ``"process"`` any end of the process,
            ``"power"`` also a power failure, except for the last 10 ms, ``"memory"`` neither.
        spool_dir: Where events are kept until S3 has acknowledged them; None takes a folder under
            the user's state directory, or a private one in TMPDIR if that cannot be used.
        max_spool_bytes: Bound of that folder, in bytes, for all who use it together. 512 MiB of
            the disk stay free.
        overflow: What happens when the buffer is full: ``"spool"`` goes on, on disk, up to
            ``max_spool_bytes``, and then drops and counts; ``"block"`` makes the callback wait
            for room (an async one awaits, a sync one waits); ``"drop_newest"`` drops and counts.
            None is ``"spool"`` if there is a spool, else ``"block"``.
        block_timeout: The longest a callback waits for room, in seconds; None waits as long as
            it takes. After that the event is dropped and counted.
        max_buffer_bytes: Bound of everything this tracker has accepted and that is not
            acknowledged, in bytes. All trackers of a process together: the sum of theirs, of which
            ``max_spool_bytes`` at the most is on disk.
        max_buffer_events: The same bound, in events.
        max_batch_bytes: A batch is cut when it has this size, in bytes before compression.
        max_batch_events: A batch is cut when it has this many events.
        max_delay: A batch is cut when its first event is this old, in seconds.
        upload_concurrency: How many artifacts of this tracker are uploaded at a time. All trackers
            of a process together upload at most 32 at a time to one bucket.
        close_timeout: The longest that leaving the ``with`` block may take, in seconds.
        close_patience: Seconds without progress after which leaving the ``with`` block ends
            before ``close_timeout``, if all events are on disk; a second more for each 100 kB
            under way. The next tracker delivers them. Set it to ``close_timeout`` in a container
            whose disk ends with it.
        close_on_sigterm: Whether SIGTERM delivers everything first, in at most ``close_timeout``,
            and then does what it did before. Needs a block entered in the main thread.
        bucket: S3 bucket; None takes the Run's own; of a run of MLflow, the one its artifacts
            are in.
        prefix: Key prefix in the bucket; None takes the Run's own.
        folder: Folder for the events of a run of MLflow, instead of a bucket.
        s3_options: Further arguments of every PutObject, by AWS's names: ``ExpectedBucketOwner``,
            ``ServerSideEncryption``, ``SSEKMSKeyId``, ``SSEKMSEncryptionContext``,
            ``BucketKeyEnabled``, ``StorageClass``, ``ACL``, ``Tagging``, ``RequestPayer``.
        compression: ``"zstd"``, ``"gzip"`` or ``"none"``.
        redact: What to cut out of everything before it is stored, besides the secrets that are
            always cut out: a function from string to string, or one or more regular expressions.
        max_value_bytes: Largest text that is stored, in bytes: of one that is larger only its
            first characters, its size and its SHA-256 are. None stores all.
        tokens: How streamed tokens are kept: ``"stream"`` one record for each stream,
            ``"each"`` an event for each token, ``"none"`` not at all.
        experiment_name: Name of the experiment when tracking into a folder or an address.
        run_name: Name of the Run when tracking into a folder or an address; None makes one up.
        session_keys: Keys of your own in a chain's metadata, or in ``config["configurable"]``,
            that tell the session; the first one that is there counts. Always known are
            ``session_id``, ``thread_id``, ``conversation_id``, ``langfuse_session_id`` and
            ``ls_session_id``. In the environment: ``chat,room``.
        user_keys: The same for the user, besides ``user_id``, ``langfuse_user_id`` and
            ``ls_user_id``.
        install: Whether everything is tracked without ``callbacks`` as long as the tracker is
            open: with True what is called in the context in which it was entered (this task or
            thread, and the tasks that it starts), with ``"process"`` what any thread or task of
            the process calls, unless it has one of its own. See ``asynctrack.install``.
        sample: How much of the traces is kept, from 0 to 1: each of them whole or not at all, by
            its id, so that all processes decide alike. Or a function of a ``Root``, which returns
            that, True or False; called once for each trace, in the callback.
        keep_errors: Whether traces that the sample leaves out are kept if they fail. They are held
            until their root ends, in at most a quarter of ``max_buffer_bytes`` besides, and with a
            spool on disk as well.
        otlp: Where finished traces are sent as well, through OpenTelemetry's exporter: an address
            like ``https://host/v1/traces``; True takes it from ``OTEL_EXPORTER_OTLP_ENDPOINT``,
            else ``http://localhost:4318``. Headers, certificates, compression and time limits come
            from the ``OTEL_EXPORTER_OTLP_*`` variables, which alone send nothing. Needs the extra
            ``otel``.
        traces: Whether finished traces go to MLflow as well, where ``run`` is one of its runs and
            the tracking server is at an ``http(s)://`` address: linked to the run, with session and
            user; feedback that the handler logs becomes assessments on them. Needs the extra
            ``otel``; not together with ``otlp``.

    Returns:
        The tracker; entering it gives the handler, leaving it delivers everything.

    Raises:
        MissingExtraError: ``run`` is in AWS or of MLflow, and no library is installed that sends
            there, or ``otlp`` is set without OpenTelemetry's exporter; the text names the extra
            that brings it.
        OptionError: An option is not allowed; the text names it, its value and what is.
        RunError: ``run`` does not offer what tracking into it needs.

    Example:
        >>> from asynctrack import open_run, tracker
        >>> from langchain_core.runnables import RunnableLambda
        >>> with tracker("runs", experiment_name="greetings", run_name="first") as handler:
        ...     RunnableLambda(str.upper).invoke("hello", config={"callbacks": [handler]})
        'HELLO'
        >>> [event.event for event in open_run("runs").events()]
        ['chain_start', 'chain_end']
    """
    raise NotImplementedError  # the decorator's is called in its place


_LAZY = {
    # Loaded when they are asked for: they need more than `import asynctrack` may.
    "AsyncHandler": "_capture.handlers",
    "DeadLetter": "_reading.sources.dead_letters",
    "Event": "_reading.decoding.events",
    "Feedback": "_reading.decoding.feedback",
    "LogHandler": "_capture.log_records",
    "RecordedExperiment": "_reading.experiment",
    "RecordedRun": "_reading.run",
    "Report": "_reading.verify_report",
    "Root": "_options",
    "Span": "_reading.trees.span",
    "StructlogProcessor": "_capture.log_records",
    "SyncHandler": "_capture.handlers",
    "Trace": "_reading.trees.trace",
    "TrackedSpan": "_capture.tracked_span",
    "Tracker": "_tracker",
    "aopen_experiment": "_reading.experiment",
    "aopen_run": "_reading.run",
    "averify": "_reading.verify",
    "open_experiment": "_reading.experiment",
    "log": "_capture.plain",
    "open_run": "_reading.run",
    "span": "_capture.plain",
    "storage_options": "_backends.s3fs",
    "tracked": "_capture.plain",
    "verify": "_reading.verify",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"asynctrack.{module}"), name)
    return found  # asked for once: as the interpreter ends, nothing is imported any more


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
