"""Feedback into a Run that lies there, by another writer: one artifact each, and its manifest.

The lines, the artifact and the manifest are made by the code that a tracker makes them with: this
is the one place where reading needs it. Nothing waits here, in a buffer or on disk: what was
appended is stored, or the caller hears why it is not.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import Any, Final, cast

from asynctrack._capture.redact import Redactor
from asynctrack._common import payload
from asynctrack._common.artifact import Batch, Receipt
from asynctrack._common.feedback import finished
from asynctrack._delivery.encode import encode_batch
from asynctrack._format import line_prefix, manifest_name, number_line
from asynctrack._options import Options, compile_redact
from asynctrack._reading.sources.stores import Location, WritableStore
from asynctrack._record.manifest import Manifest

MAX_EVENTS: Final = 100
"""Events of one writer: each stores the manifest again, which lists them all."""
_OPTIONS: Final = ("ASYNCTRACK_REDACT", "ASYNCTRACK_COMPRESSION")
"""What counts here of a tracker's options."""


class Appender:
    """Appends events to a Run. May be called from any thread.

    Args:
        location: The Run's folder.

    Raises:
        OptionError: ``ASYNCTRACK_REDACT`` or ``ASYNCTRACK_COMPRESSION`` is not allowed.
    """

    def __init__(self, location: Location) -> None:
        environ = {name: os.environ[name] for name in _OPTIONS if name in os.environ}
        options = Options.resolve({}, environ)
        self._redactor = Redactor(compile_redact(options.redact))
        self._compression = options.compression
        self._location = location
        self._lock = threading.Lock()
        self._writer: _Writer | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Store an event. Blocks until it is stored.

        Args:
            record: Its fields, without the time.

        Raises:
            ReadError: The folder cannot be written to.
            BackendError: S3 said no, or could not be reached in several attempts.
        """
        body = payload.encode({"time_unix_nano": time.time_ns(), **record})
        body = finished(self._redactor.body(body))
        with self._lock:
            # What failed may be half stored, and a child of a fork counts on by itself: nobody else
            # may take the next number.
            writer, self._writer = self._writer, None
            if writer is None or writer.pid != os.getpid() or writer.seq >= MAX_EVENTS:
                writer = _Writer(self._location)
            writer.append(body, self._compression)
            self._writer = writer


class _Writer:
    def __init__(self, location: Location) -> None:
        self.pid = os.getpid()
        self.seq = 0
        self._id = f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
        self._store = cast(WritableStore, location.store)
        self._prefix = location.prefix
        self._manifest = Manifest(self._id, location.experiment, location.run)

    def append(self, body: bytes, compression: str) -> None:
        seq = self.seq + 1
        line = number_line(line_prefix(self._id), seq, body)
        artifact = encode_batch(Batch(self._id, seq, seq, line), compression)
        self._store.write(self._prefix + artifact.name, artifact.content)
        self._manifest.delivered(Receipt.of(artifact))
        counts = {"accepted": seq, "delivered": seq, "pending": 0, "dead_lettered": 0}
        manifest = self._manifest.encode(state="closed", counts=counts, parameters={}, metrics={})
        self._store.write(self._prefix + manifest_name(self._id), manifest)
        self.seq = seq
