"""The command line. Each command is a module ``_<name>`` with ``add_parser(commands)``.

Exit codes: 0 it worked; 1 it did not, and the last line says why, or what was checked is not in
order; 2 it was called wrongly, or what it needs is not there (the Run, credentials, an optional
package); 130 it was interrupted with Ctrl-C; 141 the reader of its output went away.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import textwrap
from collections.abc import Sequence

from asynctrack import __version__

from ._common import CLOSED, CODES, FAILED, INTERRUPTED, USAGE, Missing, is_about_access
from ._notes import notes
from ._parser import Parser
from ._screen import printable

COMMANDS = (
    "_compact",
    "_completion",
    "_dataset",
    "_demo",
    "_diff",
    "_export",
    "_guide",
    "_ls",
    "_query",
    "_search",
    "_show",
    "_spool",
    "_tail",
    "_thread",
    "_threads",
    "_trace",
    "_verify",
    "_view",
)
"""The modules, one for each command. They import nothing that takes time."""

_EPILOG = f"""\
Start here:
  asynctrack demo              three LangChain scenarios, tracked into an embedded AWS right here
  asynctrack ls FOLDER         what was tracked there; also s3://bucket/prefix
  asynctrack show RUN          one Run in numbers, its slowest and its failed traces
  asynctrack COMMAND --help    everything about a command
  asynctrack guide             everything else: tracking, reading, options, limits, …

A RUN is an s3:// address, a folder, mlflow://experiment/run, or experiment/run: looked for below
--root, else SageMaker is asked. Every command prints JSON with --json.

In your own code:
  from asynctrack import tracker
  async with tracker(run) as handler:
      await chain.ainvoke({{...}}, config={{"callbacks": [handler]}})

{textwrap.fill(CODES, 100)}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; None takes those of the process, which
            then ends at once when it is interrupted: it waits for no request that hangs.

    Returns:
        The exit code.
    """
    if sys.stdout is None:  # closed by the shell: >&-
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # for good
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 gets '?'
    parser = make_parser()
    code = FAILED
    try:
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help()
            code = 0
        else:
            with notes(problems=not options.lists_problems):
                code = int(options.run(options))
        sys.stdout.flush()  # a reader that went away is noticed here, not while Python ends
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _end(INTERRUPTED, now=arguments is None)
    except BrokenPipeError:
        return _end(CLOSED, now=arguments is None)
    except Missing as error:
        return _say(str(error), USAGE)
    except Exception as error:
        return _failed(error)
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    parser = Parser(
        prog="asynctrack",
        description="LangChain events into your own S3 bucket and SageMaker Experiments.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"asynctrack {__version__}")
    # For commands with a parser of their own making (demo, spool); `add_command` says it of others.
    parser.set_defaults(lists_problems=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"{__name__}.{name}").add_parser(commands)
    return parser


def _failed(error: Exception) -> int:
    """Say what went wrong; tell what the user can change from what has failed."""
    from asynctrack import _errors

    needed = (
        _errors.MissingExtraError,
        _errors.NotFoundError,
        _errors.OptionError,
        _errors.SeveralRunsError,
    )
    if isinstance(error, needed):
        return _say(str(error), USAGE)
    if is_about_access(error):
        return _say(
            f"AWS cannot be asked ({str(error).rstrip('.')}). Set AWS_PROFILE, or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION; or give --profile and"
            " --region. To read a folder of this machine, name one that exists: without --root,"
            " names are asked of SageMaker.",
            USAGE,
        )
    ours = type(error).__module__.partition(".")[0] == "asynctrack"
    return _say(str(error) if ours else f"{type(error).__name__}: {error}", FAILED)


def _say(text: str, code: int) -> int:
    print(f"asynctrack: {printable(text)}", file=sys.stderr)
    return code


def _end(code: int, *, now: bool) -> int:
    if not now:
        return code
    # Python would wait for threads that wait for S3, and complain that nobody reads its output.
    try:
        sys.stderr.flush()
        sys.stdout.flush()
    except (OSError, ValueError):
        pass  # nobody reads it
    finally:
        os._exit(code)
