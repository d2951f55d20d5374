"""``asynctrack view``: Runs on a local web page."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Final

from ._common import (
    add_command,
    add_prices_option,
    add_source_options,
    root_of,
    spool_of,
)
from ._named import find_named_runs
from ._screen import printable

EXTRA: Final = "view"
PACKAGES: Final = ("starlette", "uvicorn", "duckdb", "pyarrow")
_CODES: Final = (
    "Exit codes: 0 it was stopped with Ctrl-C; 1 it did not work; 2 called wrongly, or what it"
    " needs is not there (the Run, credentials, an optional package)."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "view", "show Runs on a local web page, live while they are written", run,
        description="The page is served to this machine only, at an address with a random token,"
        " and changes nothing. Runs are read into a database in a temporary folder, which is gone"
        " afterwards. Ctrl-C ends it.",
        codes=_CODES,
    )  # fmt: skip
    parser.add_argument(
        "place",
        nargs="?",
        metavar="PLACE",
        help="a Run, an experiment, or any folder or s3:// address above them; default: all that is"
        " below --root, else below this folder",
    )
    parser.add_argument(
        "--port",
        type=_port,
        help="port of this machine; default: that of --token, else any that is free",
    )
    parser.add_argument(
        "--token",
        type=Path,
        metavar="FILE",
        help="keep the token in FILE, which is made if it is not there: the address is the same the"
        " next time, and bookmarks last. Only you may be able to read it",
    )
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--json", action="store_true", help='print {"url": …, "port": …} on one line instead'
    )
    add_prices_option(parser)
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """Show Runs until Ctrl-C.

    Raises:
        Missing: The place is none.
        MissingExtraError: A package is not installed.
        AsynctrackError: There is nothing to show.
    """
    from asynctrack._errors import MissingExtraError

    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("asynctrack view", package, EXTRA)

    from asynctrack._reading.sources.spool import this_spool
    from asynctrack._reading.trees.prices import read_prices
    from asynctrack.view._serve import serve
    from asynctrack.view._token import kept_token, port_of

    place = options.place
    if place is None and root_of(options) is None:
        place = "."
    token = None if options.token is None else kept_token(options.token)
    port = options.port
    if port is None:
        port = 0 if token is None else port_of(token)
    serve(
        lambda: find_named_runs(place, options),
        title=place or root_of(options) or "",
        prices=read_prices(options.prices),
        spool=this_spool(spool_of(options)),
        port=port,
        token=token,
        open_browser=not options.no_open,
        started=lambda url: _say(url, kept=token is not None, as_json=options.json),
    )
    print("\nStopped.", file=sys.stderr)
    return 0


def _say(url: str, *, kept: bool, as_json: bool) -> None:
    if as_json:
        port = int(url.split("/")[2].rpartition(":")[2])
        print(json.dumps({"url": url, "port": port}), flush=True)
        return
    print(f"Open {printable(url)}", flush=True)
    if kept:
        print("Only this machine can. The token in it is needed once in each browser: bookmarks of")
        print("its pages work whenever it runs with this --token. Ctrl-C ends it.", flush=True)
    else:
        print("Only this machine can; the token in it is needed once. Ctrl-C ends it.", flush=True)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: --port must be 0 to 65535")
    return port
