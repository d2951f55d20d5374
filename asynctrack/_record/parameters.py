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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from asynctrack._common.artifact import ParameterValue, RunState
from asynctrack._record import limits
from asynctrack._record.groups import (
    Fitting,
    Group,
    InRun,
    TooLong,
    name_groups,
    plain,
    resolved,
    would_be_named,
)
from asynctrack._record.places import HEAD_ROOM, Choice, Peer, Peers, hand_out

MORE: Final = "asynctrack.more_parameters"


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
class RunParameters:
    """What one writer wants in the Run, and what it has written there.

    Args:
        peers: Shared by the writers of this process into this Run.
    """

    _peers: Peers = field(default_factory=dict)
    _user: dict[str, Fitting] = field(default_factory=dict)
    _unsent: set[str] = field(default_factory=set)
    _left_out: list[str] = field(default_factory=list)
    _groups: list[Group] = field(default_factory=list)
    _run: InRun = field(default_factory=InRun)
    _sent: dict[str, ParameterValue] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _unplaced: bool = False
    _more: Group = field(default_factory=lambda: Group({MORE: TooLong(MORE)}, address=True))

    def log(self, name: str, value: Fitting) -> None:
        """Want a parameter of the user's in the Run."""
        key = limits.parameter_key(name)
        self._user[key] = value
        self._unsent.add(key)
        self._refused.discard(key)

    def find(self, values: Mapping[str, Fitting], *, address: bool = False) -> bool:
        """Want keys that belong together in the Run; tell whether that is new."""
        wanted = dict(values)
        if any(group.values == wanted for group in self._groups):
            return False
        self._groups.append(Group(wanted, address))
        self._unplaced = True
        return True

    def look(self, state: RunState) -> None:
        """Take note of what is in the Run; what was overwritten there is not ours any more."""
        self._run.there = dict(state.parameters)
        self._run.announced = state.announced
        self._run.own = {
            key for key in self._run.own if self._run.there.get(key) == self._sent[key]
        }

    def plan(self, announced: frozenset[str], manifest: str | None) -> Delta:
        """Return what is to be sent now.

        Args:
            announced: Names that the user's Run object holds, and will send when it ends.
            manifest: The manifest's address; None where it is not known, and what points to it
                has to wait.
        """
        run = self._run
        run.announced = announced
        peers = self._yielding()
        foreign = frozenset(run.there.keys() - run.own - peers.keys()) | announced
        name_groups([*self._groups, self._more], run, self._user, manifest)
        choice = self._choose(foreign, {}, peers, manifest)
        if self._more.named is not None and self.left_out():
            choice = self._choose(foreign, self._more.named, peers, manifest)
        kept = choice.kept
        self._unplaced = False
        waiting = {key for key, value in self._user.items() if resolved(value, manifest) is None}
        mine = run.own - kept.keys() - announced - waiting
        remove = tuple(sorted(mine | choice.crowded_out))
        put = {
            key: value
            for key, value in kept.items()
            if key not in self._refused
            and (key in self._unsent if key in self._user else self._run.there.get(key) != value)
        }
        if remove and len(self._run.there.keys() | put.keys()) > limits.MAX_PARAMETERS:
            # Whether AWS removes before it counts is not written anywhere.
            return Delta({}, remove)
        return Delta(put, remove)

    def share(self, delta: Delta) -> None:
        """Tell the other writers of this process what they may remove; before it is sent.

        What is removed stays in there: they may have seen the Run as it was before.
        """
        foreign = self._run.foreign
        addresses = {key for group in self._addresses() for key in group.named or ()}
        groups = {key: frozenset(g.named) for g in self._groups if g.named for key in g.named}
        for key in delta.put:
            if key not in foreign and key not in addresses:
                self._peers[key] = Peer(delta.put[key], groups.get(key, frozenset({key})))

    def done(self, delta: Delta) -> None:
        """Take note of what AWS has taken."""
        foreign = self._run.foreign
        self._run.own |= delta.put.keys() - foreign
        self._sent.update(delta.put)
        self._run.there.update(delta.put)
        for key in delta.remove:
            self._run.there.pop(key, None)
            self._run.own.discard(key)
            if key in self._user:
                self._unsent.add(key)  # it comes back when there is room again
        self._settle(delta)

    def refused(self, delta: Delta) -> None:
        """Take note of what AWS does not take: it is not sent again."""
        self._refused |= delta.put.keys()
        self._run.own -= set(delta.remove)
        self._settle(delta)

    def crowded(self, announced: frozenset[str]) -> bool:
        """Tell whether the user's Run object would be refused now, or take a key of ours."""
        if announced == self._run.announced or not self._run.own:
            return False
        taken = announced - self._run.announced
        return len(
            self._run.there.keys() | announced
        ) > limits.MAX_PARAMETERS - HEAD_ROOM or not taken.isdisjoint(self._run.own)

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
            self._run.there.get(key) != value and key not in self._refused
            for group in self._groups
            if not group.left_out
            for key, value in (group.named or group.values).items()
        )
        return len(self._unsent.difference(self._left_out)) + missing

    def left_out(self) -> list[object]:
        """Return the user's keys and the groups that found no room."""
        groups = (group for group in self._groups if group.left_out and not group.address)
        return [*self._left_out, *(plain(group.values) for group in groups)]

    def found(self) -> dict[str, object]:
        """Return what was found, under the names it has in the Run, or would have."""
        return would_be_named(self._groups, self._user)

    def sent(self, name: str) -> tuple[str, ParameterValue] | None:
        """Return key and value of a parameter of the user's, where it is in the Run as wanted."""
        key = limits.parameter_key(name)
        return None if key in self._unsent or key not in self._sent else (key, self._sent[key])

    # -- inside -------------------------------------------------------------------------------

    def _choose(
        self,
        foreign: frozenset[str],
        more: Mapping[str, ParameterValue],
        peers: Peers,
        manifest: str | None,
    ) -> Choice:
        choice = hand_out(
            foreign,
            groups=self._groups,
            more=more,
            peers=peers,
            user=self._user,
            manifest=manifest,
        )
        self._left_out = choice.left_out
        return choice

    def _yielding(self) -> Peers:
        """Return what other writers of this process have in the Run, where it is unchanged."""
        return {
            key: peer
            for key, peer in list(self._peers.items())
            if key not in self._run.own
            and key not in self._run.announced
            and self._run.there.get(key) == peer.value
        }

    def _addresses(self) -> list[Group]:
        return [*(group for group in self._groups if group.address), self._more]

    def _settle(self, delta: Delta) -> None:
        for key, value in delta.put.items():
            # A value that was logged meanwhile is still to be sent.
            wanted = self._user.get(key)
            if wanted == value or isinstance(wanted, TooLong):
                self._unsent.discard(key)
