"""The command line: ``asynctrack demo`` and ``asynctrack spool``.

Exit codes: 0 it worked; 1 it did not, and the last line says why; 2 it was called wrongly, or what
it needs is not there (credentials, an optional package); 130 it was interrupted with Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import _demo, _spool
from ._screen import printable

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_EPILOG = """\
Start here:
  asynctrack demo        three LangChain scenarios, tracked into an embedded AWS on this machine
  asynctrack demo -h     what it can do, also with your own AWS account
  asynctrack spool ls    events on this machine's disk that S3 has not acknowledged yet

In your own code:
  from asynctrack import tracker
  async with tracker(run) as handler:
      await chain.ainvoke({...}, config={"callbacks": [handler]})

Exit codes: 0 it worked, 1 it did not, 2 called wrongly or something needed is missing, 130 Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help()
            return 0
        return int(options.run(options))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except (_demo.Missing, _spool.Missing) as error:
        print(f"asynctrack: {printable(str(error))}", file=sys.stderr)
        return USAGE
    except Exception as error:
        print(f"asynctrack: {type(error).__name__}: {printable(str(error))}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asynctrack",
        description="LangChain events into your own S3 bucket and SageMaker Experiments.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _demo.add_parser(commands)
    _spool.add_parser(commands)
    return parser
