"""argparse, and what was meant by a command, a choice or an option that it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from asynctrack._common.nearest import did_you_mean

from ._screen import printable


class Parser(argparse.ArgumentParser):
    """Names the nearest word, and lets nothing of the command line reach the terminal."""

    def parse_args(  # type: ignore[override]  # nobody gives it a namespace of another class
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Do as argparse does; an option that is not known names the nearest."""
        parsed: argparse.Namespace
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = self._innermost(parsed)
            options = [text for action in known._actions for text in action.option_strings]
            wrong = unknown[0].partition("=")[0]
            near = did_you_mean(wrong, options) if wrong.startswith("-") else ""
            known.error(f"unrecognized arguments: {' '.join(unknown)}{near and f'; {near}'}")
        return parsed

    def error(self, message: str) -> Any:
        """End with a message; see argparse."""
        super().error(printable(message).rstrip())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the nearest of the choices; argparse calls this."""
        if action.choices is not None and value not in action.choices:
            choices = [str(one) for one in action.choices]
            near = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(
                action, f"there is no {str(value)!r}; {near}choose from {', '.join(choices)}"
            )

    def _innermost(self, parsed: argparse.Namespace) -> argparse.ArgumentParser:
        """Return the parser of the command that was given."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(getattr(parsed, action.dest, None) or "")
                if isinstance(chosen, Parser):
                    return chosen._innermost(parsed)
        return self
