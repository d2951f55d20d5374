"""``asynctrack completion``: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from typing import Any, Final

from ._common import add_command

SHELLS: Final = ("bash", "zsh", "fish")

_DESCRIPTION = (
    "bash: asynctrack completion bash > ~/.local/share/bash-completion/completions/asynctrack;"
    " zsh: asynctrack completion zsh > a folder of $fpath/_asynctrack;"
    " fish: asynctrack completion fish > ~/.config/fish/completions/asynctrack.fish."
    " Needs shtab: pip install 'asynctrack[read]'."
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
    print(shtab.complete(make_parser(), options.shell))
    return 0
