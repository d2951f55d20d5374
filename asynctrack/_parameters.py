"""Which of our parameters go into the Run, and which give way: decisions only, no I/O.

AWS takes 300 parameters for a Run and refuses a request that would make it more, also the one that
the user's ``Run`` object sends when it ends. So room goes, in this order, to

1. what the user's Run object holds, and what other writers have written: never touched;
2. the addresses of the events and the manifest, and the pointer to what is left out;
3. what the user gave to ``log_parameters``, first come first served;
4. what was found in the chains: a group of keys is there whole or not at all.

The last ``HEAD_ROOM`` places are not for 3 and 4: the user's Run object may log so many names more
after the tracker was closed. What was written and has to give way is removed again, if it is ours
and unchanged. Whatever is left out is whole in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from asynctrack import _limits
from asynctrack._artifact import ParameterValue, RunState

HEAD_ROOM: Final = 10
"""Places that only the user's Run object, and our addresses, may take."""
SLOTS: Final = 20
"""Model configurations, prompts and manifests that get parameters of their own in the Run."""
OWN_PARAMETERS: Final = 100
"""Parameters that asynctrack adds by itself at the most; the rest is the user's."""

MORE: Final = "asynctrack.more_parameters"

_CHANGING: Final = float("nan")
"""Stands for a value that the Run object is about to send; equals none."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a value that is in the manifest only, until the manifest's address is known."""

    name: str


Fitting = ParameterValue | TooLong


@dataclass(frozen=True, slots=True)
class Delta:
    """What is to be sent.

    Attributes:
        put: Keys and values to be merged into the Run.
        remove: Keys to be removed from it.
    """

    put: Mapping[str, ParameterValue]
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


@dataclass(slots=True)
class _Group:
    """Keys that belong together, without suffix; and as they are named in the Run."""

    values: dict[str, Fitting]
    address: bool
    named: dict[str, ParameterValue] | None = None
    left_out: bool = False


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


@dataclass(slots=True)
class _Places:
    """Counts the places that are still to be had."""

    foreign: frozenset[str]
    used: int = 0

    def cost(self, keys: Mapping[str, object]) -> int:
        return sum(key not in self.foreign for key in keys)

    def take(self, cost: int, head_room: int) -> bool:
        if cost and len(self.foreign) + self.used + cost > _limits.MAX_PARAMETERS - head_room:
            return False
        self.used += cost
        return True


@dataclass(slots=True)
class RunParameters:
    """What one writer wants in the Run, and what it has written there.

    Args:
        peers: Shared by the writers of this process into this Run.
    """

    _peers: Peers = field(default_factory=dict)
    _user: dict[str, Fitting] = field(default_factory=dict)
    _unsent: set[str] = field(default_factory=set)
    _left_out: list[str] = field(default_factory=list)
    _groups: list[_Group] = field(default_factory=list)
    _there: dict[str, ParameterValue] = field(default_factory=dict)
    _announced: frozenset[str] = frozenset()
    _sent: dict[str, ParameterValue] = field(default_factory=dict)
    _own: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)
    _unplaced: bool = False
    _more: _Group = field(default_factory=lambda: _Group({MORE: TooLong(MORE)}, address=True))

    def log(self, name: str, value: Fitting) -> None:
        """Want a parameter of the user's in the Run."""
        key = _limits.parameter_key(name)
        self._user[key] = value
        self._unsent.add(key)
        self._refused.discard(key)

    def find(self, values: Mapping[str, Fitting], *, address: bool = False) -> bool:
        """Want keys that belong together in the Run; tell whether that is new."""
        wanted = dict(values)
        if any(group.values == wanted for group in self._groups):
            return False
        self._groups.append(_Group(wanted, address))
        self._unplaced = True
        return True

    def look(self, state: RunState) -> None:
        """Take note of what is in the Run; what was overwritten there is not ours any more."""
        self._there = dict(state.parameters)
        self._announced = state.announced
        self._own = {key for key in self._own if self._there.get(key) == self._sent[key]}

    def plan(self, announced: frozenset[str], manifest: str | None) -> Delta:
        """Return what is to be sent now.

        Args:
            announced: Names that the user's Run object holds, and will send when it ends.
            manifest: The manifest's address; None where it is not known, and what points to it
                has to wait.
        """
        self._announced = announced
        peers = self._yielding()
        foreign = frozenset(self._there.keys() - self._own - peers.keys()) | announced
        self._name_groups(manifest)
        kept, crowded_out = self._choose(_Places(foreign), manifest, {}, peers)
        if self._more.named is not None and self.left_out():
            kept, crowded_out = self._choose(_Places(foreign), manifest, self._more.named, peers)
        self._unplaced = False
        mine = self._own - kept.keys() - announced - self._waiting(manifest)
        remove = tuple(sorted(mine | crowded_out))
        put = {
            key: value
            for key, value in kept.items()
            if key not in self._refused
            and (key in self._unsent if key in self._user else self._there.get(key) != value)
        }
        if remove and len(self._there.keys() | put.keys()) > _limits.MAX_PARAMETERS:
            # Whether AWS removes before it counts is not written anywhere.
            return Delta({}, remove)
        return Delta(put, remove)

    def share(self, delta: Delta) -> None:
        """Tell the other writers of this process what they may remove; before it is sent.

        What is removed stays in there: they may have seen the Run as it was before.
        """
        foreign = (self._there.keys() - self._own) | self._announced
        addresses = {key for group in self._addresses() for key in group.named or ()}
        groups = {key: frozenset(g.named) for g in self._groups if g.named for key in g.named}
        for key in delta.put:
            if key not in foreign and key not in addresses:
                self._peers[key] = Peer(delta.put[key], groups.get(key, frozenset({key})))

    def done(self, delta: Delta) -> None:
        """Take note of what AWS has taken."""
        foreign = (self._there.keys() - self._own) | self._announced
        self._own |= delta.put.keys() - foreign
        self._sent.update(delta.put)
        self._there.update(delta.put)
        for key in delta.remove:
            self._there.pop(key, None)
            self._own.discard(key)
            if key in self._user:
                self._unsent.add(key)  # it comes back when there is room again
        self._settle(delta)

    def refused(self, delta: Delta) -> None:
        """Take note of what AWS does not take: it is not sent again."""
        self._refused |= delta.put.keys()
        self._own -= set(delta.remove)
        self._settle(delta)

    def crowded(self, announced: frozenset[str]) -> bool:
        """Tell whether the user's Run object would be refused now, or take a key of ours."""
        if announced == self._announced or not self._own:
            return False
        taken = announced - self._announced
        return len(
            self._there.keys() | announced
        ) > _limits.MAX_PARAMETERS - HEAD_ROOM or not taken.isdisjoint(self._own)

    @property
    def waiting(self) -> bool:
        """Whether anything is to be sent, as far as is known without a look at the Run."""
        return self._unplaced or bool(self._unsent.difference(self._left_out))

    @property
    def wrote(self) -> bool:
        """Whether anything of ours is in the Run."""
        return bool(self._sent)

    @property
    def unwritten(self) -> int:
        """Parameters that the Run lacks and that are not left out for want of room."""
        missing = sum(
            self._there.get(key) != value and key not in self._refused
            for group in self._groups
            if not group.left_out
            for key, value in (group.named or group.values).items()
        )
        return len(self._unsent.difference(self._left_out)) + missing

    def left_out(self) -> list[object]:
        """Return the user's keys and the groups that found no room."""
        groups = (group for group in self._groups if group.left_out and not group.address)
        return [*self._left_out, *(_plain(group.values) for group in groups)]

    def found(self) -> dict[str, object]:
        """Return what was found, under the names it has in the Run, or would have."""
        names: dict[str, object] = {}
        taken = _plain(self._user)
        for group in self._groups:
            if group.left_out:
                continue
            named: Mapping[str, object] | None = group.named
            if named is None:
                named = _limits.free_slot(_plain(group.values), taken, frozenset(), SLOTS)
            names.update(named or {})
            taken.update(named or {})
        return names

    def sent(self, name: str) -> tuple[str, ParameterValue] | None:
        """Return key and value of a parameter of the user's, where it is in the Run as wanted."""
        key = _limits.parameter_key(name)
        return None if key in self._unsent or key not in self._sent else (key, self._sent[key])

    # -- deciding -----------------------------------------------------------------------------

    def _name_groups(self, manifest: str | None) -> None:
        """Give each group keys that nobody else uses; also where one was taken meanwhile."""
        taken: dict[str, ParameterValue] = {
            key: value for key, value in self._there.items() if key not in self._own
        }
        taken.update({key: _resolved(value, manifest) or "" for key, value in self._user.items()})
        groups = [*self._groups, self._more]
        for group in groups:
            if group.named is not None and self._holds(group.named):
                taken.update(group.named)
            elif group.named is not None:
                # Another writer may have meant the same values: they stay, and are not ours.
                for key in self._own & group.named.keys():
                    self._own.discard(key)
                    taken[key] = _CHANGING if key in self._announced else self._there[key]
                group.named = None
        for group in groups:
            if group.named is None:
                values = {key: _resolved(value, manifest) for key, value in group.values.items()}
                fitting = {key: value for key, value in values.items() if value is not None}
                if len(fitting) < len(values):
                    continue  # its pointer leads nowhere yet
                group.named = _limits.free_slot(fitting, taken, self._announced, SLOTS)
                group.left_out = group.named is None
                taken.update(group.named or {})

    def _holds(self, named: Mapping[str, ParameterValue]) -> bool:
        """Whether these keys are still the group's."""
        for key, value in named.items():
            if key in self._own:
                if key in self._announced or key in self._user:
                    return False  # the user gave it a value of its own
            elif key in self._there:
                if self._there[key] != value:
                    return False
            elif key in self._announced or key in self._user:
                return False
        return True

    def _choose(
        self,
        places: _Places,
        manifest: str | None,
        more: Mapping[str, ParameterValue],
        peers: Peers,
    ) -> tuple[dict[str, ParameterValue], set[str]]:
        """Hand out the places; return what has one, and the peers' keys that have none."""
        kept: dict[str, ParameterValue] = {}
        self._left_out = []
        for group in self._named(address=True):
            self._place(group, kept, places, 0)
        if places.take(places.cost(more), 0):
            kept.update(more)
        crowded_out: set[str] = set()
        for together in dict.fromkeys(peer.group for peer in peers.values()):
            # They came first; and of a group all go, or none.
            keys = dict.fromkeys(sorted(together & peers.keys() - kept.keys()))
            if not places.take(places.cost(keys), HEAD_ROOM):
                crowded_out |= keys.keys()
        for key, value in self._user.items():
            resolved = _resolved(value, manifest)
            if resolved is None:
                continue
            if places.take(places.cost({key: value}), HEAD_ROOM):
                kept[key] = resolved
            else:
                self._left_out.append(key)
        before = places.used
        for group in self._named(address=False):
            assert group.named is not None
            if places.used - before + places.cost(group.named) > OWN_PARAMETERS:
                group.left_out = True
            else:
                self._place(group, kept, places, HEAD_ROOM)
        return kept, crowded_out - kept.keys()

    def _yielding(self) -> Peers:
        """Return what other writers of this process have in the Run, where it is unchanged."""
        return {
            key: peer
            for key, peer in list(self._peers.items())
            if key not in self._own
            and key not in self._announced
            and self._there.get(key) == peer.value
        }

    def _addresses(self) -> list[_Group]:
        return [*(group for group in self._groups if group.address), self._more]

    def _named(self, *, address: bool) -> Iterator[_Group]:
        for group in self._groups:
            if group.address is address and group.named is not None:
                yield group

    def _place(
        self,
        group: _Group,
        kept: dict[str, ParameterValue],
        places: _Places,
        head_room: int,
    ) -> None:
        assert group.named is not None
        new = {key: value for key, value in group.named.items() if key not in kept}
        group.left_out = not places.take(places.cost(new), head_room)
        if not group.left_out:
            kept.update(group.named)

    def _waiting(self, manifest: str | None) -> set[str]:
        """Return the keys whose new value is not known yet."""
        return {key for key, value in self._user.items() if _resolved(value, manifest) is None}

    def _settle(self, delta: Delta) -> None:
        for key, value in delta.put.items():
            # A value that was logged meanwhile is still to be sent.
            wanted = self._user.get(key)
            if wanted == value or isinstance(wanted, TooLong):
                self._unsent.discard(key)


def _resolved(value: Fitting, manifest: str | None) -> ParameterValue | None:
    if not isinstance(value, TooLong):
        return value
    return None if manifest is None else _limits.pointer(manifest, value.name)


def _plain(values: Mapping[str, Fitting]) -> dict[str, object]:
    return {
        key: {"$more": value.name} if isinstance(value, TooLong) else value
        for key, value in values.items()
    }
