"""Where a tracker's events go: a Run or a folder, as the user gave it, and the backend for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from asynctrack._backends.library import require_client_library
from asynctrack._backends.run import looks_like_run, read_run
from asynctrack._errors import OptionError, RunError
from asynctrack._options import Options, whole_path

if TYPE_CHECKING:  # they import what no event loop may wait for
    from asynctrack._backends.aws import AwsBackend
    from asynctrack._backends.local import LocalBackend
    from asynctrack._backends.pool import ClientPool
    from asynctrack._backends.protocol import Backend

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def backend_maker(
    run: Any, given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], Backend]:
    """Return what makes the backend for a Run or a folder, as often as it is called.

    It is light: it asks no network and reads no file, and is given the engine's clients to share.

    Args:
        run: What the user gave to ``tracker(...)``.
        given: The options as they were given.
        options: All of them.

    Raises:
        MissingExtraError: ``run`` is a Run, and no library is installed that sends to AWS.
        OptionError: An option is not allowed with it.
        RunError: ``run`` is neither a Run nor a folder.
    """
    if isinstance(run, (str, os.PathLike)):
        return _local_backend(run, given, options)
    if not looks_like_run(run):
        raise RunError(f"tracker() takes a SageMaker Run or a folder, not {type(run).__qualname__}")
    for option in ("experiment_name", "run_name"):
        if given.get(option) is not None:
            raise OptionError(option, given[option], "left out with a Run, which has its own name")
    target = read_run(run)
    require_client_library()

    def make_backend(pool: ClientPool) -> AwsBackend:
        from asynctrack._backends.aws import AwsBackend

        return AwsBackend(
            run,
            target,
            pool=pool,
            bucket=options.bucket,
            prefix=options.prefix,
            put_options=options.s3_options,
        )

    return make_backend


def _local_backend(
    place: str | os.PathLike[str], given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], LocalBackend]:
    name = os.fspath(place)
    if not name or _SCHEME.match(name):
        raise OptionError(
            "run",
            name,
            "a SageMaker Run, or the plain path of a folder ('.' for this one); for S3 pass a Run",
        )
    folder = whole_path("run", place)
    # One in the environment is meant for Runs, as are names there for folders.
    if given.get("bucket") is not None:
        raise OptionError("bucket", options.bucket, "left out when tracking into a folder")
    now = datetime.now(tz=timezone.utc)
    run_name = options.run_name or f"run-{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"
    experiment = options.experiment_name or "default"

    def make_backend(pool: ClientPool) -> LocalBackend:
        from asynctrack._backends.local import LocalBackend

        return LocalBackend(folder, options.prefix or "", experiment, run_name)

    return make_backend
