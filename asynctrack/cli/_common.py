"""What all commands share: exit codes, options, how a Run is named, JSON.

A command is a module ``_<name>`` with ``add_parser(commands)``, listed in ``cli/__init__``. It
makes its parser with ``add_command`` and imports what takes time only when it runs, so that
``asynctrack --help`` stays quick. What it returns is the exit code.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asynctrack._common.period import Period

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
CLOSED: Final = 141
"""The exit codes; the last one is what a shell reports of a program whose reader went away."""

MAX_DEPTH: Final = 200
"""How deep printed JSON may be nested."""

CODES: Final = (
    "Exit codes: 0 it worked; 1 it did not, or what was checked is not in order; 2 called wrongly,"
    " or what it needs is not there (the Run, credentials, an optional package); 130 Ctrl-C;"
    " 141 the reader of the output went away."
)
RUN_HELP: Final = (
    "s3://… address, folder, mlflow://experiment/run, or experiment/run (below --root, else asked"
    " of SageMaker)"
)


class Missing(RuntimeError):
    """Called wrongly, or something the command needs is not there; the message says what to do."""


def is_about_access(error: Exception) -> bool:
    """Tell whether AWS was not asked at all: no credentials, no region, no such profile."""
    return getattr(error, "code", None) in (
        "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoRegionError",
    )  # fmt: skip


def add_command(
    commands: Any,
    name: str,
    help: str,  # noqa: A002  # argparse's word
    run: Callable[[argparse.Namespace], int],
    *,
    description: str = "",
    codes: str = CODES,
    lists_problems: bool = False,
) -> argparse.ArgumentParser:
    """Add a command's parser.

    Args:
        commands: What ``add_parser`` was given.
        name: The command's name.
        help: One line for the list of commands.
        run: Runs it; returns the exit code.
        description: More for its own help, after that line.
        codes: Its exit codes in words.
        lists_problems: Whether it prints by itself what could not be read.
    """
    text = f"{help[0].upper()}{help[1:]}.{f' {description}' if description else ''}"
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=text, epilog=codes
    )
    parser.set_defaults(run=run, lists_problems=lists_problems)
    return parser


def add_json_option(
    parser: argparse.ArgumentParser, text: str = "print one JSON document instead"
) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=text)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add where Runs are looked for: ``--root``, ``--endpoint-url``, ``--profile``, ``--region``,
    and the spool whose events are read too."""
    group = parser.add_argument_group("where Runs are")
    group.add_argument(
        "--root",
        metavar="PLACE",
        help="s3:// address or folder below which names are looked for; default: $ASYNCTRACK_ROOT,"
        " else SageMaker is asked",
    )
    group.add_argument(
        "--endpoint-url", metavar="URL", help="of S3 and SageMaker, instead of AWS's own"
    )
    group.add_argument("--profile", help="profile of the AWS configuration")
    group.add_argument("--region", help="AWS region")
    group.add_argument(
        "--request-payer",
        choices=("requester",),
        help="you pay for what is read from a bucket of somebody else's; also in"
        " $ASYNCTRACK_S3_OPTIONS, beside ExpectedBucketOwner",
    )
    spool = group.add_mutually_exclusive_group()
    spool.add_argument(
        "--spool-dir",
        metavar="DIR",
        help="this machine's spool, whose events of the Run are read too; default:"
        " $ASYNCTRACK_SPOOL_DIR, else the one that trackers use",
    )
    spool.add_argument(
        "--no-spool", action="store_true", help="read what is delivered only, not this machine's"
    )


def add_prices_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--prices``."""
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help='JSON: {"model": [USD per million input tokens, USD per million output tokens]}, or'
        ' {"model": {"in": …, "out": …, "cache_read": …, "cache_write": …}};'
        " default: $ASYNCTRACK_PRICES. No price is built in: without one no cost is shown",
    )


def add_period_options(parser: argparse.ArgumentParser, what: str = "traces that started") -> None:
    """Add ``--since`` and ``--until``; ``period_of`` reads them.

    Args:
        parser: The command's parser.
        what: What is narrowed, and by which time of it.
    """
    from asynctrack._common.moments import ALLOWED

    group = parser.add_argument_group("when")
    group.add_argument("--since", metavar="TIME", help=f"{what} at that time or later: {ALLOWED}")
    group.add_argument("--until", metavar="TIME", help=f"{what} before that time: the same")


def period_of(options: argparse.Namespace) -> Period:
    """Return from when to when is asked.

    Args:
        options: With the options of ``add_period_options``.

    Raises:
        Missing: Nothing can be in it.
        OptionError: A time is none.
    """
    from asynctrack._common.moments import moment_of
    from asynctrack._common.period import Period

    now = time.time_ns()
    since, until = (
        None if given is None else moment_of(given, now=now, option=f"--{name}")
        for name, given in (("since", options.since), ("until", options.until))
    )
    if since is not None and until is not None and since >= until:
        raise Missing(
            f"nothing is between --since {options.since} and --until {options.until}: the first"
            " must be the earlier one"
        )
    return Period(since, until)


def spool_of(options: argparse.Namespace) -> str | bool:
    """Return which spool is read too, as ``spool_dir`` of ``open_run`` takes it."""
    return False if options.no_spool else options.spool_dir or True


def root_of(options: argparse.Namespace) -> str | None:
    """Return where names are looked for; None asks SageMaker."""
    root: str | None = options.root or os.environ.get("ASYNCTRACK_ROOT") or None
    return root


def access_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return how AWS is reached, as keywords of ``open_run`` and its like."""
    from asynctrack._reading.sources.locate import resolve_s3_options

    s3_options = resolve_s3_options()
    if options.request_payer:
        s3_options["RequestPayer"] = options.request_payer
    return {
        "endpoint_url": options.endpoint_url,
        "profile": options.profile,
        "region": options.region,
        "s3_options": s3_options,
    }


def print_json(document: Any) -> None:
    """Print one JSON document: plain ASCII, so that nothing in it can reach the terminal."""
    print(json.dumps(plain(document), indent=2, allow_nan=False, default=str))


def print_json_line(document: Any) -> None:
    """Print one line of NDJSON, at once."""
    print(
        json.dumps(plain(document), separators=(",", ":"), allow_nan=False, default=str), flush=True
    )


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value without what JSON lacks: NaN and infinity become text, as in SageMaker.

    What is nested deeper than ``MAX_DEPTH`` becomes ``{"$cut": "depth"}``: readers have limits.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= MAX_DEPTH:
        return {"$cut": "depth"}
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    return [plain(item, depth + 1) for item in value]


def whole_number(text: str, allowed: str = "a whole number, 0 or more") -> int:
    """Return what an option gives as a whole number.

    Args:
        text: What was given.
        allowed: What may be, for the error.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: it must be {allowed}")
    return int(text)
