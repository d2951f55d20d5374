"""From what a user calls a Run, an experiment or a place to what is there."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ._common import Missing, access_of, is_about_access, root_of, spool_of

if TYPE_CHECKING:
    from asynctrack._backends.s3_read import Access
    from asynctrack._reading.run import Damaged, RecordedRun
    from asynctrack._reading.sources.locate import Found, Source

LISTED: Final = 10
"""Runs that are listed where one is wanted."""


def source_of(text: str, options: argparse.Namespace) -> tuple[Source, str | None]:
    """Return ``source`` and ``root`` of ``open_run`` for what a user calls a Run.

    An address and a folder that exists are what they are; everything else is a name.

    Raises:
        Missing: It is neither.
    """
    if text.startswith(("s3://", "mlflow://")):
        return text, None
    if not text:
        raise Missing("an empty text is no Run's name: is a variable of the shell not set?")
    path = Path(text).expanduser()
    # With --root it is a name, even if a folder has the same name.
    if options.root is None and path.exists():
        return path, None
    parts = text.split("/")
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~"):
        return (parts[0], parts[1]), root_of(options)
    from asynctrack._reading.sources.wanted import no_folder

    missing = str(no_folder(path.absolute()))
    raise Missing(
        f"{missing}{'' if missing.endswith('?') else '.'} It is no Run's name: give an s3://"
        " address, a folder, or experiment/run (with --root PLACE, or known to SageMaker)"
    )


def open_named_run(
    text: str, options: argparse.Namespace, *, damaged: Damaged = "raise"
) -> RecordedRun:
    """Open the Run that a user names.

    Args:
        text: The argument.
        options: With the options of ``add_source_options``.
        damaged: As for ``open_run``.

    Raises:
        Missing: As ``find_named_run``.
        AsynctrackError: As ``open_run``.
    """
    from asynctrack._reading.run import RecordedRun
    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.trees.prices import read_prices

    prices = read_prices(options.prices) if hasattr(options, "prices") else None
    found = find_named_run(text, options)
    spool = this_spool(spool_of(options))
    return RecordedRun(found, damaged=damaged, spool=spool, prices=prices)


def find_named_run(text: str, options: argparse.Namespace) -> Found:
    """Find the one Run that a user names. Blocks.

    Args:
        text: The argument: a Run, or a place or an experiment with one Run.
        options: With the options of ``add_source_options``.

    Raises:
        Missing: ``text`` names nothing.
        SeveralRunsError: It names more than one Run: the newest are listed.
        AsynctrackError: As ``open_run``.
    """
    from asynctrack._errors import SeveralRunsError
    from asynctrack._reading.sources.locate import locate_run
    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.sources.wanted import newest_first

    spool = this_spool(spool_of(options))
    if not _is_an_experiment(text, options):
        source, root = source_of(text, options)
        access = _access(options)
        try:
            return locate_run(source, root, access, spool)
        except SeveralRunsError as error:
            raise SeveralRunsError(_name_one(text, error.found), error.found) from error
    found = find_named_runs(text, options)
    if len(found) == 1:
        return found[0]
    runs = newest_first([one.locations[0] for one in found])
    names = [f"{one.experiment}/{one.run}" for one in runs]
    raise SeveralRunsError(_name_one(text, names, options.root), [one.uri for one in runs])


def find_named_runs(text: str | None, options: argparse.Namespace) -> list[Found]:
    """Find all Runs that a user's argument names. Blocks.

    Args:
        text: A Run, an experiment, or any folder or address above; None is all of ``--root``.
        options: With the options of ``add_source_options``.

    Raises:
        Missing: ``text`` names nothing.
        AsynctrackError: As ``open_run``; ``NotFoundError`` where there is none.
    """
    from asynctrack._reading.sources.locate import describe, locate_experiment, locate_runs
    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.sources.wanted import nothing_at

    spool = this_spool(spool_of(options))
    place, root = text, None
    if text is None:
        place = root_of(options)
        if place is None:
            raise Missing(
                "say where: a folder, s3://bucket/prefix, or the name of an experiment; or set"
                " ASYNCTRACK_ROOT"
            )
    assert place is not None
    if _is_an_experiment(place, options):
        root = text and root_of(options)
        with _no_folder_either(place, asked=root is None):
            return locate_experiment(place, root, _access(options), spool)[1]
    source: Source = place
    if text is not None:
        source, root = source_of(place, options)
    found = locate_runs(source, root, _access(options), spool)
    if not found:
        raise nothing_at(describe(source, root))
    return found


def _is_an_experiment(text: str, options: argparse.Namespace) -> bool:
    """Tell whether an argument can only be the name of an experiment."""
    if not text or text.startswith("s3://") or "/" in text or text in (".", ".."):
        return False
    return options.root is not None or not Path(text).expanduser().exists()


@contextmanager
def _no_folder_either(text: str, *, asked: bool) -> Iterator[None]:
    """Say that there is no such folder, where SageMaker knows no experiment of that name."""
    from asynctrack._errors import BackendError, MissingExtraError, NotFoundError
    from asynctrack._reading.sources.wanted import no_folder

    try:
        yield
    except (BackendError, MissingExtraError, NotFoundError) as error:
        if not asked:
            raise
        missing = str(no_folder(Path(text).expanduser().absolute()))
        why = (
            f"{missing}{'' if missing.endswith('?') else '.'} Names below a folder or an s3://"
            " address take --root PLACE. SageMaker, which was asked for an experiment of that name:"
            f" {error}"
        )
        if isinstance(error, MissingExtraError) or is_about_access(error):
            raise Missing(why) from error
        error.args = (why,)
        raise


def _name_one(text: str, names: Sequence[str], root: str | None = None) -> str:
    """Return what to say where one Run is wanted and there are several."""
    listed = "".join(f"\n  {shlex.quote(name)}" for name in names[:LISTED])
    more = f"\n  … and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    below = "" if root is None else f" --root {shlex.quote(root)}"
    return (
        f"there are {len(names):,} Runs at {text}, and one is wanted. Name it as here, the newest"
        f" first:{listed}{more}\nasynctrack ls {shlex.quote(text)}{below} tells more of them"
    )


def _access(options: argparse.Namespace) -> Access:
    from asynctrack._backends.s3_read import Access

    return Access(**access_of(options))
