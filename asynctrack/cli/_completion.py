"""``asynctrack completion``: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

from ._common import add_command

SHELLS: Final = ("bash", "zsh", "fish")
_FILES: Final = frozenset({"FILE"})
_FOLDERS: Final = frozenset({"DIR", "PLACE", "RUN", "RUN_A", "RUN_B"})
"""What stands for such an argument in the help."""

_DESCRIPTION = (
    "bash: asynctrack completion bash > ~/.local/share/bash-completion/completions/asynctrack;"
    " zsh: asynctrack completion zsh > a folder of $fpath/_asynctrack;"
    " fish: asynctrack completion fish > ~/.config/fish/completions/asynctrack.fish."
    " Needs shtab, of the extra read."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "completion", "print a completion script for your shell", run,
        description=_DESCRIPTION,
    )  # fmt: skip
    parser.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        MissingExtraError: shtab is not installed.
    """
    from asynctrack._errors import MissingExtraError

    from . import make_parser

    try:
        import shtab
    except ImportError as error:
        raise MissingExtraError("asynctrack completion", "shtab", "read") from error
    parser = make_parser()
    for action in _actions(parser):
        if action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all options and arguments, those of commands below as well."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
