"""From what a user names to where it is: an address, a folder, names, or a Run object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Union

from asynctrack._backends.mlflow.address import is_mlflow_address, looks_like_mlflow_run
from asynctrack._backends.run import looks_like_run
from asynctrack._backends.s3_read import (
    Access,
    S3Store,
    ask_for_experiment,
    ask_for_run,
    latest_experiments,
    read_state_of,
    split_uri,
)
from asynctrack._common.nearest import did_you_mean
from asynctrack._errors import BackendError, NotFoundError, OptionError, SeveralRunsError
from asynctrack._options import Options
from asynctrack._reading.sources.spool import Spool, spool_writers, spooled_runs, writers_of
from asynctrack._reading.sources.stores import (
    LocalStore,
    Location,
    Store,
    find_runs,
    run_at,
    spellings,
)
from asynctrack._reading.sources.wanted import (
    bullets,
    no_folder,
    nothing_at,
    nothing_yet,
    only_run,
    unknown_run,
)

Place = Union[str, "os.PathLike[str]"]
Source = Union[Place, "tuple[str, str]", Any]
"""An address, a folder, ``(experiment_name, run_name)``, or a Run of SageMaker or MLflow."""

S3_OPTIONS: Final = "ASYNCTRACK_S3_OPTIONS"
_ALLOWED = (
    "an s3:// address, a folder, a pair (experiment_name, run_name), mlflow://experiment/run, or a"
    " Run of the SageMaker SDK or of MLflow"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A Run that was found.

    Attributes:
        locations: Its folders: one, or one for each place it was tracked into.
        parameters: What SageMaker holds of it, where SageMaker was asked.
    """

    locations: tuple[Location, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def resolve_s3_options(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return further arguments of requests to S3, checked as the tracker checks them.

    Args:
        given: What the user gives; None takes ``ASYNCTRACK_S3_OPTIONS`` of the environment.

    Raises:
        OptionError: It is none of the arguments that a tracker takes.
    """
    # Other variables are for the tracker: a wrong one is no reason not to read.
    environ = {name: value for name, value in os.environ.items() if name == S3_OPTIONS}
    keywords = {} if given is None else {"s3_options": given}
    return dict(Options.resolve(keywords, environ).s3_options or {})


def locate_run(source: Source, root: Place | None, access: Access, spool: Spool = ()) -> Found:
    """Find the one Run that the user names. Blocks.

    A Run's folder on this machine counts even if it is empty.

    Args:
        source: What the user names.
        root: Where to look for names.
        access: How AWS is reached.
        spool: The spool: a Run may be there before its first delivery.

    Raises:
        NotFoundError: There is none.
        SeveralRunsError: There are several; the text lists them.
        OptionError: ``source`` or ``root`` is no place.
        ReadError: A folder cannot be read.
        BackendError: AWS said no.
    """
    found = locate_runs(source, root, access, spool)
    if len(found) != 1:
        only_run([one.locations[0] for one in found], describe(source, root))
    for location in found[0].locations:
        # The spool first: `tail` can follow it while S3 does not answer.
        if writers_of(spool, location):
            return found[0]
        if next(iter(location.store.objects(location.prefix)), None) is not None:
            return found[0]
        # A tracker makes its folder when it begins; S3 shows nothing before the first object.
        if isinstance(location.store, LocalStore) and Path(location.uri).is_dir():
            return found[0]
    raise nothing_yet(found[0].locations[0].uri)


def locate_runs(
    source: Source, root: Place | None, access: Access, spool: Spool = ()
) -> list[Found]:
    """Find all Runs that the user names; see ``locate_run``."""
    if is_mlflow_address(source) or looks_like_mlflow_run(source):
        return [_of_mlflow(source, access, spool)]
    if isinstance(source, (str, os.PathLike)):
        if root is not None:
            raise OptionError("root", str(root), "left out with an address or a folder")
        return [Found((location,)) for location in _below(source, access, spool)]
    if isinstance(source, tuple):
        return _by_names(source, root, access, spool)
    if not looks_like_run(source):
        raise OptionError("source", source, _ALLOWED)
    client, state = read_state_of(source, access.s3_options)
    return [Found(_addresses(state.events, client), state.parameters)]


def locate_experiment(
    source: Place, root: Place | None, access: Access, spool: Spool = ()
) -> tuple[str, list[Found]]:
    """Find an experiment by its name or its place. Blocks.

    Returns:
        Its name and its Runs.

    Raises:
        NotFoundError: There is none.
        SeveralRunsError: There are several experiments; the text lists them.
        OptionError: ``source`` is no place.
        ReadError: A folder cannot be read.
        BackendError: AWS said no.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise OptionError("source", source, "an experiment's name, an s3:// address or a folder")
    name = os.fspath(source)
    if root is not None:
        runs = _below(root, access, spool)
        found = _first(spellings(name), lambda one: [run for run in runs if run.experiment == one])
    elif isinstance(source, str) and _is_name(source):
        found = _of_experiment(source, access)
    else:
        found = [Found((run,)) for run in _below(source, access, spool)]
    if not found and root is not None and runs:
        tried = [one for (one,) in spellings(name)]
        raise unknown_run(os.fspath(root), tried, sorted({run.experiment for run in runs}))
    if not found:
        raise nothing_at(describe(source, root))
    names = sorted({run.locations[0].experiment for run in found})
    if len(names) > 1:
        folders = sorted({run.locations[0].uri.rpartition("/run=")[0] + "/" for run in found})
        raise SeveralRunsError(
            f"there are {len(names)} experiments at {name}; open one of them:{bullets(folders)}",
            folders,
        )
    return names[0], found


def describe(source: Source, root: Place | None) -> str:
    """Return what a user gave, for a message."""
    if root is None and not isinstance(source, tuple):
        return str(source)
    parts = source if isinstance(source, tuple) else (source,)
    name = " or ".join("/".join(one) for one in spellings(*map(str, parts)))
    return name if root is None else f"{os.fspath(root)} with the name {name}"


def _by_names(
    names: tuple[Any, ...], root: Place | None, access: Access, spool: Spool
) -> list[Found]:
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise OptionError("source", names, _ALLOWED)
    possible = spellings(*names)
    if root is not None:
        runs = _below(root, access, spool)
        if any((run.experiment,) == names[:1] != possible[-1][:1] for run in runs):
            possible = possible[:1]  # not the SDK's experiment, so not its Run
        found = _first(
            possible, lambda *one: [run for run in runs if (run.experiment, run.run) == one]
        )
        if not found and runs:
            raise _unknown_below(root, possible, runs)
        return found
    # As the SDK writes them: SageMaker has them in lower case, whatever the user gives.
    experiment, run = possible[-1]
    client = access.client("sagemaker")
    try:
        state = ask_for_run(client, f"{experiment}-{run}")
    except NotFoundError as error:
        raise NotFoundError(f"{error}{_meant_in_sagemaker(client, experiment, run)}") from error
    # The first delivery records the address; the spool has it before that.
    waiting = (
        writer.uri
        for writer in spool_writers(spool)
        if (writer.experiment, writer.run) == (experiment, run) and writer.uri.startswith("s3://")
    )
    events = state.events or tuple(dict.fromkeys(waiting))
    if not events:
        raise _not_tracked(f"the Run {run!r} of the experiment {experiment!r}")
    return [Found(_addresses(events, access.client("s3")), state.parameters)]


def _of_mlflow(source: Any, access: Access, spool: Spool) -> Found:
    from asynctrack._backends.mlflow.read import ask_for_mlflow_run, s3_endpoint

    state = ask_for_mlflow_run(source)
    access = replace(access, endpoint_url=s3_endpoint(access.endpoint_url))
    if state.events:
        found = []
        for uri in state.events:
            store, prefix = _store(uri, access)
            found.append(only_run(find_runs(store, prefix), uri))
        return Found(tuple(found), state.parameters)
    # Beside its artifacts, where nobody has said otherwise.
    place = state.artifacts
    if place is not None:
        uri = f"s3://{place.bucket}/{place.path}" if place.bucket else place.path
        with suppress(NotFoundError):
            if beside := _below(uri, access, spool):
                return Found(tuple(beside), state.parameters)
    raise NotFoundError(
        f"{state.name} does not say where its events are (the tag asynctrack.events), and there are"
        " none beside its artifacts: it was not tracked, or its first event is not delivered yet."
        " Where it was tracked into a bucket or a folder, open that"
    )


def _of_experiment(name: str, access: Access) -> list[Found]:
    experiment = name.lower()  # as the SDK writes it
    sagemaker, s3 = access.client("sagemaker"), access.client("s3")
    found = []
    try:
        components = ask_for_experiment(sagemaker, experiment)
    except NotFoundError as error:
        raise NotFoundError(f"{error}{_meant_in_sagemaker(sagemaker, experiment)}") from error
    for trial_component in components:
        state = ask_for_run(sagemaker, trial_component)
        if state.events:
            locations = _addresses(state.events, s3)
            if locations[0].experiment == experiment:
                found.append(Found(locations, state.parameters))
    if not found:
        # SageMaker may answer for an experiment that it does not know.
        meant = "" if components else _meant_in_sagemaker(sagemaker, experiment)
        raise _not_tracked(f"the experiment {experiment!r}", meant)
    return found


def _first(
    possible: Iterable[tuple[str, ...]], choose: Callable[..., list[Location]]
) -> list[Found]:
    """Return the Runs of the likeliest spelling that has any: never of two at once."""
    for one in possible:
        if runs := choose(*one):
            return [Found((run,)) for run in runs]
    return []


def _unknown_below(
    root: Place, possible: Sequence[tuple[str, ...]], runs: Sequence[Location]
) -> NotFoundError:
    """Return the error for names that no Run below a place has."""
    experiments = {names[0] for names in possible}
    # A Run of the experiment that was named is likelier than one of another.
    near = [run for run in runs if run.experiment in experiments] or runs
    tried = ["/".join(names) for names in possible]
    return unknown_run(os.fspath(root), tried, (f"{run.experiment}/{run.run}" for run in near))


def _meant_in_sagemaker(client: Any, experiment: str, run: str | None = None) -> str:
    """Return a question with the nearest name that SageMaker knows; empty if there is none, or
    SageMaker does not tell."""
    try:
        experiments = latest_experiments(client)
        if run is None:
            meant = did_you_mean(experiment, experiments)
        elif experiment in experiments:
            known = ask_for_experiment(client, experiment)
            names = (name.removeprefix(f"{experiment}-") for name in known)
            meant = did_you_mean(f"{experiment}/{run}", (f"{experiment}/{one}" for one in names))
        else:
            meant = did_you_mean(f"{experiment}/{run}", (f"{one}/{run}" for one in experiments))
    except (BackendError, NotFoundError):
        return ""  # the permission to list is no condition for reading
    return meant and f"; {meant}".rstrip()


def _not_tracked(what: str, meant: str = "") -> NotFoundError:
    return NotFoundError(
        f"SageMaker knows no address of events of {what} (the parameter asynctrack.events): it was"
        " not tracked, or its first event is not delivered yet. Where it was tracked into a folder"
        f" or a prefix, say which: --root PLACE, or root=... in Python{meant}"
    )


def _addresses(uris: Sequence[str], client: Any) -> tuple[Location, ...]:
    locations = []
    for uri in uris:
        bucket, prefix = split_uri(uri)
        found = find_runs(S3Store(client, bucket), prefix)
        locations.append(only_run(found, uri))
    return tuple(locations)


def _below(place: Place, access: Access, spool: Spool) -> list[Location]:
    store, prefix = _store(place, access)
    found = {location.prefix: location for location in find_runs(store, prefix)}
    for key in spooled_runs(spool, store, prefix):
        waiting = run_at(store, key)
        if waiting is not None:
            found.setdefault(waiting.prefix, waiting)
    if not found and isinstance(store, LocalStore):
        path = Path(place).expanduser().absolute()
        if not path.exists():  # checked last: the first delivery makes it
            raise no_folder(path)
    return [found[key] for key in sorted(found)]


def _store(place: Place, access: Access) -> tuple[Store, str]:
    text = os.fspath(place)
    if not text:  # more likely an unset variable than the current folder
        raise OptionError("source", text, f"{_ALLOWED}; '.' is the current folder")
    if text.startswith("s3://"):
        bucket, prefix = split_uri(text)
        return S3Store(access.client("s3"), bucket), prefix
    if "://" in text:
        raise OptionError("source", text, _ALLOWED)
    path = Path(text).expanduser().absolute()
    return LocalStore(Path(path.anchor)), path.as_posix()[len(path.anchor) :]


def _is_name(text: str) -> bool:
    return not (text.startswith("s3://") or os.sep in text or "/" in text or Path(text).exists())
