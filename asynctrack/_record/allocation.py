"""The names of parameters in a Run, and who gets one of its 300 places: decisions only.

Some keys belong together: those of a model configuration, a prompt, an address. Such a group gets
the first suffix (none, ``.2``, ``.3`` …) under which nobody else has other values. When somebody
takes one of its keys later, the group moves on to the next suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asynctrack._common.artifact import ParameterValue
from asynctrack._record import limits

SLOTS: Final = 20
"""Suffixes that a group of keys can have in a Run."""
HEAD_ROOM: Final = 10
"""Places that only the user's Run object and our addresses may take."""
OWN_PARAMETERS: Final = 100
"""Most parameters that asynctrack adds on its own; the rest is the user's."""

MORE: Final = "asynctrack.more_parameters"
"""The parameter that says where those are that found no room."""
_CHANGING: Final = float("nan")
"""Stands for a value that the Run object is about to send. It equals no other value."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a value that only the manifest holds. The Run gets a pointer to it."""

    name: str


WantedValue = ParameterValue | TooLong


def value_in_run(value: WantedValue, manifest: str | None) -> ParameterValue | None:
    """Return the value for the Run; None for a pointer to a manifest without an address yet."""
    if not isinstance(value, TooLong):
        return value
    return None if manifest is None else limits.pointer(manifest, value.name)


def values_in_manifest(values: Mapping[str, WantedValue]) -> dict[str, object]:
    """Return values as the manifest stores them."""
    return {
        key: {"$more": value.name} if isinstance(value, TooLong) else value
        for key, value in values.items()
    }


@dataclass(slots=True)
class RunContents:
    """What is in the Run, as far as this writer knows.

    Attributes:
        there: All its parameters.
        own: The keys of those that this writer has written.
        announced: Names that the user's Run object holds and sends when it ends.
    """

    there: dict[str, ParameterValue] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    announced: frozenset[str] = frozenset()

    @property
    def foreign(self) -> frozenset[str]:
        """Keys that are not ours, or soon will not be."""
        return frozenset(self.there.keys() - self.own) | self.announced


@dataclass(slots=True)
class ParameterGroup:
    """Keys that belong together.

    Attributes:
        values: Keys without suffix, and their values.
        address: Whether they say where something is.
        named: The keys with their suffix; None while they have none, or when none is free.
        left_out: Whether there is no room for them.
    """

    values: dict[str, WantedValue]
    address: bool
    named: dict[str, ParameterValue] | None = None
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class PeerParameter:
    """A parameter of another writer of this process. It gives way to the Run object and addresses.

    Attributes:
        value: What was written.
        group: The keys that come and go with it.
    """

    value: ParameterValue
    group: frozenset[str]


PeerParameters = dict[str, PeerParameter]
"""What the writers of one process have in one Run and may remove for each other, by key."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Who has a place.

    Attributes:
        kept: Our parameters that have one.
        crowded_out: Keys of other writers of this process that have to go.
        left_out: Keys of the user's that have none.
    """

    kept: dict[str, ParameterValue] = field(default_factory=dict)
    crowded_out: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def name_groups(
    groups: Iterable[ParameterGroup],
    run: RunContents,
    user: Mapping[str, WantedValue],
    manifest: str | None,
) -> None:
    """Give each group keys that nobody else uses; a new suffix where somebody took one.

    Args:
        groups: All of them, oldest first.
        run: What is in the Run. A key that somebody else took is no longer our own there.
        user: The parameters that the user named.
        manifest: The manifest's address, or None.
    """
    taken = {key: value for key, value in run.there.items() if key not in run.own}
    taken.update({key: value_in_run(value, manifest) or "" for key, value in user.items()})
    for group in groups:
        if group.named is not None and _still_has(group.named, run, user):
            taken.update(group.named)
        elif group.named is not None:
            # Another writer may want the same values: they stay, and are not ours.
            for key in run.own & group.named.keys():
                run.own.discard(key)
                taken[key] = _CHANGING if key in run.announced else run.there[key]
            group.named = None
    for group in groups:
        if group.named is None:
            values = {key: value_in_run(value, manifest) for key, value in group.values.items()}
            known = {key: value for key, value in values.items() if value is not None}
            if len(known) < len(values):
                continue  # its pointer has no target yet
            group.named = limits.free_slot(known, taken, run.announced, SLOTS)
            group.left_out = group.named is None
            taken.update(group.named or {})


def expected_names(
    groups: Iterable[ParameterGroup], user: Mapping[str, WantedValue]
) -> dict[str, object]:
    """Return all groups that have room, under the keys they have or are going to have."""
    names: dict[str, object] = {}
    beyond: list[object] = []
    taken = values_in_manifest(user)
    for group in groups:
        if group.left_out:
            continue
        named: Mapping[str, object] | None = group.named
        if named is None:
            named = limits.free_slot(values_in_manifest(group.values), taken, frozenset(), SLOTS)
            if named is None and not group.address:
                beyond.append(values_in_manifest(group.values))
        names.update(named or {})
        taken.update(named or {})
    if beyond:
        names[MORE] = beyond
    return names


def allocate(
    foreign: frozenset[str],
    *,
    groups: Iterable[ParameterGroup],
    more: Mapping[str, ParameterValue],
    peers: PeerParameters,
    user: Mapping[str, WantedValue],
    manifest: str | None,
    most: int,
) -> Allocation:
    """Hand out the places; note in each group whether it is left out.

    The order is: addresses, the pointer to what is left out, what other writers of this process
    have there, the user's parameters, what was found. ``parameters`` says why.

    Args:
        foreign: Keys that keep their place in any case.
        groups: What was found, and the addresses.
        more: The pointer to what is left out, where it is wanted.
        peers: What other writers have.
        user: What the user wants.
        manifest: The manifest's address; None while it is unknown.
        most: Most parameters of a Run.
    """
    room, allocation = _Room(foreign, most), Allocation()
    named = [group for group in groups if group.named is not None]
    for group in named:
        if group.address:
            _place(group, allocation.kept, room, 0)
    if room.take(room.cost(more), 0):
        allocation.kept.update(more)
    for together in dict.fromkeys(peer.group for peer in peers.values()):
        # They were first; of a group all go, or none.
        keys = dict.fromkeys(sorted(together & peers.keys() - allocation.kept.keys()))
        if not room.take(room.cost(keys), HEAD_ROOM):
            allocation.crowded_out.update(keys)
    for key, wanted in user.items():
        value = value_in_run(wanted, manifest)
        if value is None:
            continue
        if room.take(room.cost({key: value}), HEAD_ROOM):
            allocation.kept[key] = value
        else:
            allocation.left_out.append(key)
    before = room.used
    for group in named:
        if not group.address:
            if room.used - before + room.cost(group.named or {}) > OWN_PARAMETERS:
                group.left_out = True
            else:
                _place(group, allocation.kept, room, HEAD_ROOM)
    allocation.crowded_out.difference_update(allocation.kept)
    return allocation


def _still_has(
    named: Mapping[str, ParameterValue], run: RunContents, user: Mapping[str, WantedValue]
) -> bool:
    """Tell whether all these keys are still the group's."""
    for key, value in named.items():
        if key in run.own:
            if key in run.announced or key in user:
                return False  # the user gave it another value
        elif key in run.there:
            if run.there[key] != value:
                return False
        elif key in run.announced or key in user:
            return False
    return True


def _place(
    group: ParameterGroup, kept: dict[str, ParameterValue], room: _Room, head_room: int
) -> None:
    named = group.named or {}
    new = {key: value for key, value in named.items() if key not in kept}
    group.left_out = not room.take(room.cost(new), head_room)
    if not group.left_out:
        kept.update(named)


@dataclass(slots=True)
class _Room:
    """Counts the places that are left."""

    foreign: frozenset[str]
    most: int
    used: int = 0

    def cost(self, keys: Mapping[str, object]) -> int:
        return sum(key not in self.foreign for key in keys)

    def take(self, cost: int, head_room: int) -> bool:
        if cost and len(self.foreign) + self.used + cost > self.most - head_room:
            return False
        self.used += cost
        return True
