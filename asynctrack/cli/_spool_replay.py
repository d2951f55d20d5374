"""``asynctrack spool replay``: deliver by hand, with a progress bar, and say what is left."""

from __future__ import annotations

import argparse
import asyncio
import base64
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from asynctrack._artifact import Artifact, Receipt
from asynctrack._backends._aws_errors import map_error
from asynctrack._backends._local import LocalBackend
from asynctrack._backends._s3_read import Access, split_uri
from asynctrack._errors import BackendError, TransientError
from asynctrack._format import MEDIA_TYPE, run_prefix
from asynctrack._reading._s3_options import resolve_s3_options
from asynctrack._replay import SegmentOutcome, numbers, replay_folder
from asynctrack._retry import RetryPolicy
from asynctrack._spool import SpoolBusyError, WriterFolder
from asynctrack._spool_layout import read_description, waiting_segments, writers

from ._common import Missing, print_json
from ._progress import Advance, progress
from ._screen import Screen
from ._spool import address, say

ATTEMPTS: Final = 8
"""How often a request is tried before a writer is given up, in this call of the command."""
_NEEDS_CREDENTIALS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError"})


class _Store(Protocol):
    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None: ...


@dataclass(slots=True)
class _Total:
    """What was done."""

    delivered: int = 0
    segments: int = 0
    living: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def replay(spools: list[Path], options: argparse.Namespace) -> int:
    """Deliver what dead writers left; returns the exit code.

    Raises:
        Missing: A writer is named that is not there, or credentials are missing.
    """
    found = [path for spool_dir in spools for path in writers(spool_dir)]
    unknown = set(options.writers) - {path.name for path in found}
    if unknown:
        places = ", ".join(map(str, spools))
        raise Missing(f"no such writer in {places}: {', '.join(sorted(unknown))}")
    if options.writers:
        found = [path for path in found if path.name in options.writers]
    total = _Total()
    segments = sum(len(waiting_segments(path)) for path in found)
    with progress("delivering", segments, "segments") as advance:
        try:
            anyio.run(_all, found, options, total, advance)
        except asyncio.CancelledError:  # what Ctrl-C becomes there until Python 3.11
            raise KeyboardInterrupt from None
    _report(spools, total, as_json=options.json)
    return 1 if total.problems else 0


async def _all(
    found: list[Path], options: argparse.Namespace, total: _Total, advance: Advance
) -> None:
    replayed_by = f"cli{secrets.token_hex(8)}"
    clients: dict[tuple[Any, ...], Any] = {}

    def report(outcome: SegmentOutcome) -> None:
        path, damaged = outcome.plan.path, outcome.plan.damaged
        total.delivered += outcome.delivered
        total.segments += 1
        if outcome.problem:
            total.problems.append(f"left as it is: {outcome.problem}")
        elif damaged:
            total.problems.append(
                f"{len(damaged)} damaged events (seq {numbers(damaged)}) set aside in"
                f" {path.with_suffix('.damaged')}"
            )
        for batch, reason in outcome.refused:
            total.problems.append(
                f"the events {batch.first_seq} to {batch.last_seq} of {path} are refused for good"
                f" ({reason}); they are beside it in a file that ends in .dead"
            )
        advance(1)

    for path in found:
        try:
            folder = WriterFolder(path, make=False)
        except SpoolBusyError:
            total.living.append(path.name)
            continue
        except OSError as error:
            total.problems.append(f"{path}: {error}")
            continue
        with folder:
            try:
                store = await anyio.to_thread.run_sync(_store_for, path, options, clients)
                await replay_folder(
                    folder,
                    store=store,
                    upload=_uploader(store),
                    replayed_by=replayed_by,
                    report=report,
                )
            except _NoPlaceError:
                if folder.segments():
                    total.problems.append(
                        f"{path} does not say where its events belong: give --to"
                        " s3://bucket/prefix, or a folder"
                    )
            except BackendError as error:
                if error.code in _NEEDS_CREDENTIALS:
                    raise Missing(
                        "no AWS credentials found, nothing more was delivered. Set AWS_PROFILE, or"
                        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --profile."
                    ) from error
                total.problems.append(f"{path}: what is left of it stays there ({error})")
            except OSError as error:
                total.problems.append(f"{path}: what is left of it stays there ({error})")


def _uploader(store: _Store) -> Callable[[Artifact], Any]:
    async def upload(artifact: Artifact) -> Receipt:
        await store.put(
            artifact.name, artifact.content, crc32=artifact.crc32, media_type=MEDIA_TYPE
        )
        return Receipt.of(artifact)

    return upload


class _NoPlaceError(Exception):
    """Neither the writer nor the user says where."""


def _store_for(path: Path, options: argparse.Namespace, clients: dict[Any, Any]) -> _Store:
    info = read_description(path)
    destination = info.get("destination")
    place, region, endpoint = address(destination), options.region, options.endpoint_url
    if place and not options.to:
        assert isinstance(destination, dict)
        region = region or _text(destination.get("region"))
        endpoint = endpoint or _text(destination.get("endpoint_url"))
    else:
        place = options.to and _below(options.to, info)
    if not place:
        raise _NoPlaceError
    if not place.startswith("s3://"):
        root = Path(place).expanduser().absolute().as_posix()
        folder = LocalBackend(path, "", "", "").elsewhere({"kind": "folder", "root": root}, "", "")
        assert folder is not None
        return _Patient(folder)
    key = (endpoint, options.profile, region)
    if key not in clients:
        access = Access(endpoint, options.profile, region, s3_options=resolve_s3_options())
        clients[key] = access.client("s3")
    bucket, prefix = split_uri(place)
    return _Patient(_S3(clients[key], bucket, f"{prefix}/" if prefix else ""))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _below(place: str, info: dict[str, Any]) -> str:
    """Return the folder of a Run in a place that the user names."""
    last = place.rstrip("/").split("/")[-2:]
    if [part.partition("=")[0] for part in last] == ["experiment", "run"]:
        return place.rstrip("/") + "/"
    experiment, run = (
        # One part of the path, whatever the spool says.
        str(info.get(name) or fallback).replace("/", "_")
        for name, fallback in (("experiment", "default"), ("run", "replayed"))
    )
    return f"{place.rstrip('/')}/{run_prefix('', experiment, run)}"


class _S3:
    """A Run's folder in S3, through boto3 in threads."""

    def __init__(self, client: Any, bucket: str, root: str) -> None:
        self._client = client
        self._bucket = bucket
        self._root = root

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object."""

        def request() -> None:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._root + name,
                Body=content,
                ContentType=media_type,
                ChecksumCRC32=base64.b64encode(crc32.to_bytes(4, "big")).decode(),
            )

        try:
            await anyio.to_thread.run_sync(request)
        except Exception as error:
            raise map_error(error) from error


class _Patient:
    """Tries again what may work in a moment; says at once what needs somebody to act."""

    def __init__(self, store: _Store, policy: RetryPolicy | None = None) -> None:
        self._store = store
        self._policy = policy or RetryPolicy(cap=10.0)

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object."""
        for failures in range(1, ATTEMPTS + 1):
            try:
                await self._store.put(name, content, crc32=crc32, media_type=media_type)
                return
            except TransientError as error:
                if failures == ATTEMPTS:
                    raise
                jitter = random.random()  # noqa: S311  # spreads retries, guards no secret
                await anyio.sleep(self._policy.wait(failures, jitter, error.retry_after))


def _report(spools: list[Path], total: _Total, *, as_json: bool) -> None:
    if as_json:
        document = {
            "spool_dirs": [*map(str, spools)],
            "delivered": total.delivered,
            "segments": total.segments,
            "living": total.living,
            "problems": total.problems,
        }
        print_json(document)
        return
    screen = Screen()
    say(screen, f"{total.delivered:,} events delivered, of {total.segments} segments")
    if total.living:
        say(screen, f"{len(total.living)} writers live and deliver their events themselves")
    for problem in total.problems:
        say(screen, f"NOT DELIVERED  {problem}")
