"""Where a tracker's events and its record go, as the user gave it, and the backend for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asynctrack._backends.library import require_client_library, require_s3_libraries
from asynctrack._backends.mlflow.address import (
    Place,
    is_mlflow_address,
    layout_names,
    looks_like_mlflow_run,
    place_of_artifacts,
    target_of,
)
from asynctrack._backends.run import looks_like_run, read_run
from asynctrack._errors import OptionError, RunError
from asynctrack._format import ACCESS_POINT
from asynctrack._options import Options, whole_path

if TYPE_CHECKING:  # they import what no event loop may wait for
    from asynctrack._backends.aws import AwsBackend
    from asynctrack._backends.bucket import BucketBackend
    from asynctrack._backends.local import LocalBackend
    from asynctrack._backends.pool import ClientPool
    from asynctrack._backends.protocol import Backend

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def backend_maker(
    run: Any, given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], Backend]:
    """Return what makes the backend for a Run, a folder or an address, as often as it is called.

    The record goes to the Run that is given. The events go where a SageMaker Run's artifacts go,
    or those of a run of MLflow, unless the options name a place.

    It is light: it asks no network and reads no file, and is given the engine's clients to share.

    Args:
        run: What the user gave to ``tracker(...)``.
        given: The options as they were given.
        options: All of them.

    Raises:
        MissingExtraError: ``run`` is in AWS, and no library is installed that sends there.
        OptionError: An option is not allowed with it.
        RunError: ``run`` is neither a Run nor a folder nor an address.
    """
    of_mlflow = is_mlflow_address(run) or looks_like_mlflow_run(run)
    if isinstance(run, (str, os.PathLike)) and not of_mlflow:
        _only_with_mlflow(given)
        if isinstance(run, str) and run.startswith("s3://"):
            return _bucket_backend(run, given, options)
        return _local_backend(run, given, options)
    if not (of_mlflow or looks_like_run(run)):
        raise RunError(
            "tracker() takes a Run of SageMaker or MLflow, a folder or an s3:// address, not"
            f" {type(run).__qualname__}"
        )
    for option in ("experiment_name", "run_name"):
        if given.get(option) is not None:
            raise OptionError(option, given[option], "left out with a Run, which has its own name")
    if of_mlflow:
        return _mlflow_backend(run, given, options)
    _only_with_mlflow(given)
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


def _mlflow_backend(
    run: Any, given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], Backend]:
    from asynctrack._backends.mlflow.api import require_mlflow

    target = target_of(run)
    require_mlflow("Tracking into a run of MLflow")
    experiment, name = layout_names(target)
    # What the call says comes before what the environment says.
    folder = None if given.get("bucket") and not given.get("folder") else options.folder
    place: Place | None = None
    if folder is not None:
        if given.get("bucket") is not None:
            raise OptionError("bucket", options.bucket, "left out with folder=…: events go to one")
        place = Place("", os.fspath(folder))
    elif options.bucket is not None:
        place = Place(options.bucket, "")
    elif target.artifact_uri is not None:
        place = place_of_artifacts(target.artifact_uri)
        if place is None:
            raise OptionError(
                "bucket",
                None,
                "given, or folder=…, as only MLflow's server reaches this run's artifacts"
                f" ({target.artifact_uri.partition(':')[0]}:)",
            )
    if place is not None and place.bucket:
        require_s3_libraries()

    def make_backend(pool: ClientPool) -> Backend:
        from asynctrack._backends.local import LocalBackend
        from asynctrack._backends.mlflow.place import MlflowPlace
        from asynctrack._backends.mlflow.record import MlflowRecord

        record = MlflowRecord(target)
        if place is not None and not place.bucket:
            folder = Path(place.path)
            return LocalBackend(folder, options.prefix or "", experiment, name, record)
        return MlflowPlace(
            record,
            experiment,
            name,
            pool=pool,
            place=place,
            prefix=options.prefix or "",
            put_options=options.s3_options,
        )

    return make_backend


def _only_with_mlflow(given: Mapping[str, Any]) -> None:
    if given.get("folder") is not None:
        raise OptionError("folder", given["folder"], "left out but with a run of MLflow")


def _local_backend(
    place: str | os.PathLike[str], given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], LocalBackend]:
    name = os.fspath(place)
    if not name or _SCHEME.match(name):
        raise OptionError(
            "run",
            name,
            "a Run of SageMaker or MLflow, mlflow://experiment/run, s3://bucket/prefix, or the"
            " plain path of a folder ('.' for this one)",
        )
    folder = whole_path("run", place)
    # One in the environment is meant for Runs, as are names there for folders.
    if given.get("bucket") is not None:
        raise OptionError("bucket", options.bucket, "left out when tracking into a folder")
    experiment, run_name = _names(options)

    def make_backend(pool: ClientPool) -> LocalBackend:
        from asynctrack._backends.local import LocalBackend

        return LocalBackend(folder, options.prefix or "", experiment, run_name)

    return make_backend


def _bucket_backend(
    address: str, given: Mapping[str, Any], options: Options
) -> Callable[[ClientPool], BucketBackend]:
    if given.get("bucket") is not None:
        raise OptionError("bucket", options.bucket, "left out with an address, which names it")
    place = address.removeprefix("s3://")
    point = ACCESS_POINT.match(place)  # it may have slashes of its own
    bucket = point[0] if point else place.partition("/")[0]
    below = (place[len(bucket) :].strip("/"), options.prefix or "")
    try:
        checked = replace(options, bucket=bucket, prefix="/".join(one for one in below if one))
    except OptionError as error:
        raise OptionError("run", address, f"s3://bucket/prefix: {error.allowed}") from None
    require_s3_libraries()
    experiment, run_name = _names(options)

    def make_backend(pool: ClientPool) -> BucketBackend:
        from asynctrack._backends.bucket import BucketBackend

        return BucketBackend(
            pool=pool,
            bucket=bucket,
            prefix=checked.prefix or "",
            experiment=experiment,
            run=run_name,
            put_options=options.s3_options,
        )

    return make_backend


def _names(options: Options) -> tuple[str, str]:
    """Return the names of experiment and Run, where there is no Run that has them."""
    now = datetime.now(tz=timezone.utc)
    made_up = f"run-{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()}"
    return options.experiment_name or "default", options.run_name or made_up
