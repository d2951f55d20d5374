"""Parameters that belong together, and the keys they have in the Run.

A model configuration, a prompt, an address: its keys get the first suffix (none, ``.2``, ``.3`` …)
under which nobody else has other values. Where somebody takes one of them meanwhile, the group
moves on to the next suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asynctrack._common.artifact import ParameterValue
from asynctrack._record import limits

SLOTS: Final = 20
"""Model configurations, prompts and manifests that get parameters of their own in the Run."""

_CHANGING: Final = float("nan")
"""Stands for a value that the Run object is about to send; equals none."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a value that is in the manifest only, until the manifest's address is known."""

    name: str


Fitting = ParameterValue | TooLong


def resolved(value: Fitting, manifest: str | None) -> ParameterValue | None:
    """Return the value for the Run; None where it points to a manifest whose address is unknown."""
    if not isinstance(value, TooLong):
        return value
    return None if manifest is None else limits.pointer(manifest, value.name)


def plain(values: Mapping[str, Fitting]) -> dict[str, object]:
    """Return values as the manifest has them."""
    return {
        key: {"$more": value.name} if isinstance(value, TooLong) else value
        for key, value in values.items()
    }


@dataclass(slots=True)
class InRun:
    """What is in the Run, as far as is known.

    Attributes:
        there: What it holds.
        own: Keys of that which are ours.
        announced: Names that the user's Run object holds, and will send when it ends.
    """

    there: dict[str, ParameterValue] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    announced: frozenset[str] = frozenset()

    @property
    def foreign(self) -> frozenset[str]:
        """Keys that are not ours, or will not be."""
        return frozenset(self.there.keys() - self.own) | self.announced


@dataclass(slots=True)
class Group:
    """Keys that belong together, without suffix; and as they are named in the Run.

    Attributes:
        values: Keys without suffix.
        address: Whether they say where something is.
        named: Keys with their suffix; None where they have none yet, or none is free.
        left_out: Whether there is no room for them.
    """

    values: dict[str, Fitting]
    address: bool
    named: dict[str, ParameterValue] | None = None
    left_out: bool = False


def name_groups(
    groups: Iterable[Group],
    run: InRun,
    user: Mapping[str, Fitting],
    manifest: str | None,
) -> None:
    """Give each group keys that nobody else uses; also where one was taken meanwhile.

    Args:
        groups: All of them, oldest first.
        run: What is in the Run; what was taken is not our own in there any more.
        user: What the user has given names of its own to.
        manifest: The manifest's address, or None.
    """
    taken = {key: value for key, value in run.there.items() if key not in run.own}
    taken.update({key: resolved(value, manifest) or "" for key, value in user.items()})
    for group in groups:
        if group.named is not None and _holds(group.named, run, user):
            taken.update(group.named)
        elif group.named is not None:
            # Another writer may have meant the same values: they stay, and are not ours.
            for key in run.own & group.named.keys():
                run.own.discard(key)
                taken[key] = _CHANGING if key in run.announced else run.there[key]
            group.named = None
    for group in groups:
        if group.named is None:
            values = {key: resolved(value, manifest) for key, value in group.values.items()}
            fitting = {key: value for key, value in values.items() if value is not None}
            if len(fitting) < len(values):
                continue  # its pointer leads nowhere yet
            group.named = limits.free_slot(fitting, taken, run.announced, SLOTS)
            group.left_out = group.named is None
            taken.update(group.named or {})


def would_be_named(groups: Iterable[Group], user: Mapping[str, Fitting]) -> dict[str, object]:
    """Return all groups that are not left out, under the keys they have, or would have."""
    names: dict[str, object] = {}
    taken = plain(user)
    for group in groups:
        if group.left_out:
            continue
        named: Mapping[str, object] | None = group.named
        if named is None:
            named = limits.free_slot(plain(group.values), taken, frozenset(), SLOTS)
        names.update(named or {})
        taken.update(named or {})
    return names


def _holds(named: Mapping[str, ParameterValue], run: InRun, user: Mapping[str, Fitting]) -> bool:
    """Whether these keys are still the group's."""
    for key, value in named.items():
        if key in run.own:
            if key in run.announced or key in user:
                return False  # the user gave it a value of its own
        elif key in run.there:
            if run.there[key] != value:
                return False
        elif key in run.announced or key in user:
            return False
    return True
