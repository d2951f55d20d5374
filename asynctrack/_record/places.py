"""Who gets one of a Run's 300 places: decisions only.

In this order: addresses, the pointer to what is left out, what other writers of this process have
there, the user's parameters, what was found. Why, ``parameters`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asynctrack._common.artifact import ParameterValue
from asynctrack._record import limits
from asynctrack._record.groups import Fitting, Group, resolved

HEAD_ROOM: Final = 10
"""Places that only the user's Run object, and our addresses, may take."""
OWN_PARAMETERS: Final = 100
"""Parameters that asynctrack adds by itself at the most; the rest is the user's."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A parameter in the Run that gives way to the Run object and to addresses.

    Attributes:
        value: What was written.
        group: The keys that come and go with it.
    """

    value: ParameterValue
    group: frozenset[str]


Peers = dict[str, Peer]
"""What the writers of one process have in one Run and may remove for each other, by key."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who has a place.

    Attributes:
        kept: Our parameters that have one.
        crowded_out: Keys of other writers of this process that have to go.
        left_out: Keys of the user's that have none.
    """

    kept: dict[str, ParameterValue] = field(default_factory=dict)
    crowded_out: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def hand_out(
    foreign: frozenset[str],
    *,
    groups: Iterable[Group],
    more: Mapping[str, ParameterValue],
    peers: Peers,
    user: Mapping[str, Fitting],
    manifest: str | None,
) -> Choice:
    """Hand out the places; notes in each group whether it is left out.

    Args:
        foreign: Keys that have a place whatever happens.
        groups: What was found, and the addresses.
        more: The pointer to what is left out, where it is wanted.
        peers: What other writers have.
        user: What the user wants.
        manifest: The manifest's address; None where what points to it has to wait.
    """
    places, choice = _Places(foreign), Choice()
    named = [group for group in groups if group.named is not None]
    for group in named:
        if group.address:
            _place(group, choice.kept, places, 0)
    if places.take(places.cost(more), 0):
        choice.kept.update(more)
    for together in dict.fromkeys(peer.group for peer in peers.values()):
        # They came first; and of a group all go, or none.
        keys = dict.fromkeys(sorted(together & peers.keys() - choice.kept.keys()))
        if not places.take(places.cost(keys), HEAD_ROOM):
            choice.crowded_out.update(keys)
    for key, wanted in user.items():
        value = resolved(wanted, manifest)
        if value is None:
            continue
        if places.take(places.cost({key: value}), HEAD_ROOM):
            choice.kept[key] = value
        else:
            choice.left_out.append(key)
    before = places.used
    for group in named:
        if not group.address:
            if places.used - before + places.cost(group.named or {}) > OWN_PARAMETERS:
                group.left_out = True
            else:
                _place(group, choice.kept, places, HEAD_ROOM)
    choice.crowded_out.difference_update(choice.kept)
    return choice


def _place(group: Group, kept: dict[str, ParameterValue], places: _Places, head_room: int) -> None:
    named = group.named or {}
    new = {key: value for key, value in named.items() if key not in kept}
    group.left_out = not places.take(places.cost(new), head_room)
    if not group.left_out:
        kept.update(named)


@dataclass(slots=True)
class _Places:
    """Counts the places that are still to be had."""

    foreign: frozenset[str]
    used: int = 0

    def cost(self, keys: Mapping[str, object]) -> int:
        return sum(key not in self.foreign for key in keys)

    def take(self, cost: int, head_room: int) -> bool:
        if cost and len(self.foreign) + self.used + cost > limits.MAX_PARAMETERS - head_room:
            return False
        self.used += cost
        return True
