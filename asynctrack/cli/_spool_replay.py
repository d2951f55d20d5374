"""``asynctrack spool replay``: deliver by hand, with a progress bar, and say what is left."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from asynctrack._backends.aws_errors import map_error
from asynctrack._backends.local import LocalBackend
from asynctrack._backends.pool import ClientPool
from asynctrack._backends.s3_put import put_object
from asynctrack._backends.s3_read import Access, account_bucket, split_uri
from asynctrack._common.artifact import Artifact, Batch, Receipt
from asynctrack._common.retry import RetryPolicy
from asynctrack._delivery.replay import SegmentOutcome, replay_dead_letters, replay_folder
from asynctrack._delivery.replay_plan import numbers
from asynctrack._errors import BackendError, PausingError, TransientError
from asynctrack._format import MEDIA_TYPE, run_prefix
from asynctrack._reading.sources.locate import resolve_s3_options
from asynctrack._spool.folder import SpoolBusyError, WriterFolder
from asynctrack._spool.layout import (
    dead_letters_in,
    held_files,
    read_description,
    waiting_segments,
    writers,
)

from ._common import Missing, print_json
from ._progress import Advance, progress
from ._screen import Screen
from ._spool_state import address, is_beside_artifacts, is_in_account_bucket, say

ATTEMPTS: Final = 8
"""How often a request is tried before a writer is given up, in this call of the command."""
IN_A_ROW: Final = 10
"""Files of one writer that may fail one after the other, each for a reason of its own perhaps,
before the rest is left."""
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
    """Deliver what dead writers left, or dead letters again; returns the exit code.

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
    files, kind = waiting_segments, "segments"
    if options.dead_letters:
        files, kind = dead_letters_in, "files of dead letters"
    with progress("delivering", sum(len(files(path)) for path in found), kind) as advance:
        try:
            anyio.run(_all, found, options, total, advance)
        except asyncio.CancelledError:  # what Ctrl-C becomes there until Python 3.11
            raise KeyboardInterrupt from None
    _report(spools, total, kind, as_json=options.json)
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
                f" ({reason}); they are {_beside(path, batch)}"
            )
        advance(1)

    async def deliver(path: Path, folder: WriterFolder | None) -> None:
        store = await anyio.to_thread.run_sync(_store_for, path, options, clients)
        shared: dict[str, Any] = {
            "store": store,
            "upload": _uploader(store),
            "replayed_by": replayed_by,
            "report": report,
            "in_a_row": IN_A_ROW,
        }
        if options.dead_letters:
            await replay_dead_letters(path, **shared)
        elif folder is not None:
            await replay_folder(folder, **shared)

    for path in found:
        try:
            with contextlib.ExitStack() as stack:
                folder = None
                try:
                    # Deletes it in the end, where nothing is left in it.
                    folder = stack.enter_context(WriterFolder(path, make=False))
                except SpoolBusyError:
                    if not options.dead_letters:
                        total.living.append(path.name)
                        continue
                    # Those of the living are theirs no more: no lock is needed.
                if await anyio.to_thread.run_sync(_left, path, options.dead_letters):
                    await deliver(path, folder)
                elif not options.dead_letters:  # its Run is told that it died, where that can be
                    with contextlib.suppress(_NoPlaceError, BackendError):
                        await deliver(path, folder)
        except _NoPlaceError:
            total.problems.append(
                f"{path} does not say where its events belong: give --to s3://bucket/prefix,"
                " or a folder"
            )
        except BackendError as error:
            if error.code in _NEEDS_CREDENTIALS:
                raise Missing(
                    "no AWS credentials found, nothing more was delivered. Set AWS_PROFILE, or"
                    " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --profile."
                ) from error
            why = f"{path}: what is left of it stays there ({error}). {error.advice}"
            total.problems.append(why.rstrip())
        except OSError as error:
            total.problems.append(f"{path}: what is left of it stays there ({error})")


def _left(path: Path, dead_letters: bool) -> bool:
    """Return whether there is something to deliver."""
    if dead_letters:
        return bool(dead_letters_in(path))
    return bool(waiting_segments(path) or held_files(path))


def _beside(path: Path, batch: Batch) -> str:
    if path.stem == f"{batch.first_seq:012d}-{batch.last_seq:012d}":
        return "where they were, with the new reason"
    return (
        "beside it in a file that ends in .dead; asynctrack spool replay --dead-letters sends them"
        " again"
    )


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
    in_account = is_in_account_bucket(destination) and not options.to
    if is_beside_artifacts(destination) and not options.to:
        assert isinstance(destination, dict)
        return _Patient(_beside_artifacts(destination, info))
    if (place or in_account) and not options.to:
        assert isinstance(destination, dict)
        region = region or _text(destination.get("region"))
        endpoint = endpoint or _text(destination.get("endpoint_url"))
    else:
        place = options.to and _below(options.to, info)
    if in_account:
        assert isinstance(destination, dict)
        _require_profile(_text(destination.get("profile")), options.profile)
        asked = ("account's bucket", options.profile, region)
        if asked not in clients:
            clients[asked] = account_bucket(Access(profile=options.profile, region=region))
        place = f"s3://{clients[asked]}/{destination['root']}"
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
    root = f"{prefix}/" if prefix else ""
    return _Patient(_S3(clients[key], bucket, root, of_account=in_account))


def _beside_artifacts(destination: dict[str, Any], info: dict[str, Any]) -> _Store:
    """Return the place beside the artifacts of a run of MLflow, which is asked for it."""
    from asynctrack._backends.mlflow.address import with_secrets
    from asynctrack._backends.mlflow.place import left_beside_artifacts

    tracking = with_secrets(_text(destination.get("tracking")))
    names = (str(info.get("experiment") or "default"), str(info.get("run") or "replayed"))
    store = left_beside_artifacts(destination, *names, tracking=tracking, pool=ClientPool())
    if store is None:
        raise _NoPlaceError
    return store


def _require_profile(theirs: str | None, given: str | None) -> None:
    """Find out no default bucket for a writer where this may be another account than its own.

    Raises:
        PausingError: The writer had another profile than this program has.
    """
    here = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    if given or theirs in (None, here):
        return
    raise PausingError(
        "OtherProfile",
        f"its events belong into the default bucket of its account, and it had the profile"
        f" {theirs!r} of the AWS configuration, not {here!r}",
        advice="Give --profile, or say where with --to.",
    )


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

    def __init__(self, client: Any, bucket: str, root: str, *, of_account: bool) -> None:
        self._client = client
        self._bucket = bucket
        self._root = root
        self._of_account = of_account

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object."""

        def request() -> None:
            key = self._root + name
            put_object(
                self._client, self._bucket, key, content, crc32=crc32, ContentType=media_type
            )

        try:
            await anyio.to_thread.run_sync(request)
        except Exception as error:
            mapped = map_error(error)
            if self._of_account and mapped.code == "NoSuchBucket":
                raise PausingError(
                    mapped.code,
                    f"the account's default bucket, {self._bucket}, does not exist",
                    advice="Create it, or say where with --to s3://bucket/prefix, or a folder.",
                ) from error
            raise mapped from error


class _Patient:
    """Tries again what may work in a moment; says at once what needs somebody to act.

    Patience is for the service: what comes after something that failed all the same is tried once.
    """

    def __init__(self, store: _Store, policy: RetryPolicy | None = None) -> None:
        self._store = store
        self._policy = policy or RetryPolicy(cap=10.0)
        self._attempts = ATTEMPTS

    async def put(self, name: str, content: bytes, *, crc32: int, media_type: str) -> None:
        """Store an object."""
        attempts, self._attempts = self._attempts, 1
        for failures in range(1, attempts + 1):
            try:
                await self._store.put(name, content, crc32=crc32, media_type=media_type)
            except TransientError as error:
                if failures == attempts or error.too_large:
                    raise
                jitter = random.random()  # noqa: S311  # spreads retries, guards no secret
                await anyio.sleep(self._policy.wait(failures, jitter, error.retry_after))
            else:
                self._attempts = ATTEMPTS
                return


def _report(spools: list[Path], total: _Total, kind: str, *, as_json: bool) -> None:
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
    say(screen, f"{total.delivered:,} events delivered, of {total.segments} {kind}")
    if total.living:
        say(screen, f"{len(total.living)} writers live and deliver their events themselves")
    for problem in total.problems:
        say(screen, f"NOT DELIVERED  {problem}")
