"""What one writer wants in the Run, what is there, and what to send next: decisions only, no I/O.

AWS takes 300 parameters for a Run and refuses a request that makes it more. It also refuses the
request that the user's ``Run`` object sends when it ends. So places go, in this order, to

1. what the user's Run object holds, and what other writers have written: never touched;
2. the addresses of the events and the manifest, and the pointer to what is left out;
3. what the user gave to ``log_parameters``, first come first served;
4. what was found in the chains: a group of keys is there whole or not at all.

The last ``HEAD_ROOM`` places are not for 3 and 4: the user's Run object may log that many more
names after the tracker is closed. Parameters of ours that have to give way are removed again if
nobody has changed them. The manifest holds all that is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asynctrack._common.artifact import ParameterValue, RunState
from asynctrack._record.allocation import (
    HEAD_ROOM,
    MORE,
    Allocation,
    ParameterGroup,
    PeerParameter,
    PeerParameters,
    RunContents,
    TooLong,
    WantedValue,
    allocate,
    expected_names,
    name_groups,
    value_in_run,
    values_in_manifest,
)
from asynctrack._record.limits import SAGEMAKER, Limits


@dataclass(frozen=True, slots=True)
class Delta:
    """What to send.

    Attributes:
        put: Keys and values to merge into the Run.
        remove: Keys to remove from it.
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
        limits: What the Run's service takes.
    """

    _peers: PeerParameters = field(default_factory=dict)
    _limits: Limits = SAGEMAKER
    _user: dict[str, WantedValue] = field(default_factory=dict)
    _unsent: set[str] = field(default_factory=set)
    _left_out: list[str] = field(default_factory=list)
    _groups: list[ParameterGroup] = field(default_factory=list)
    _run: RunContents = field(default_factory=RunContents)
    _sent: dict[str, ParameterValue] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _unplaced: bool = False
    kept: set[str] = field(default_factory=set)
    """Keys of the user's whose first value stays in the Run: its service lets none change."""
    _more: ParameterGroup = field(
        default_factory=lambda: ParameterGroup({MORE: TooLong(MORE)}, address=True)
    )

    def log(self, name: str, value: WantedValue) -> None:
        """Want a parameter of the user's in the Run."""
        key = self._limits.key(name)
        if not self._limits.changeable and self._user.get(key, value) != value:
            self.kept.add(key)
            return
        self._user[key] = value
        self._unsent.add(key)
        self._refused.discard(key)

    def add_group(self, values: Mapping[str, WantedValue], *, address: bool = False) -> bool:
        """Want keys that belong together in the Run; return whether that is new."""
        wanted = dict(values)
        if any(group.values == wanted for group in self._groups):
            return False
        self._groups.append(ParameterGroup(wanted, address))
        self._unplaced = True
        return True

    def look(self, state: RunState) -> None:
        """Note what is in the Run. What somebody has overwritten there is no longer ours."""
        self._run.there = dict(state.parameters)
        self._run.announced = state.announced
        self._run.own = {
            key for key in self._run.own if self._run.there.get(key) == self._sent[key]
        }

    def plan(self, announced: frozenset[str], manifest: str | None) -> Delta:
        """Return what to send now.

        Args:
            announced: Names that the user's Run object holds and sends when it ends.
            manifest: The manifest's address; None while it is unknown: pointers to it wait.
        """
        run = self._run
        run.announced = announced
        self._keep_first(manifest)
        peers = self._removable()
        foreign = frozenset(run.there.keys() - run.own - peers.keys()) | announced
        name_groups([*self._groups, self._more], run, self._user, manifest)
        allocation = self._choose(foreign, {}, peers, manifest)
        if self._more.named is not None and self.left_out():
            allocation = self._choose(foreign, self._more.named, peers, manifest)
        kept = allocation.kept
        self._unplaced = False
        waiting = {
            key for key, value in self._user.items() if value_in_run(value, manifest) is None
        }
        mine = run.own - kept.keys() - announced - waiting
        remove = tuple(sorted(mine | allocation.crowded_out)) if self._limits.changeable else ()
        put = {
            key: value
            for key, value in kept.items()
            if key not in self._refused
            and (key in self._unsent if key in self._user else self._run.there.get(key) != value)
        }
        if remove and len(self._run.there.keys() | put.keys()) > self._limits.parameters:
            # AWS does not document whether it removes before it counts.
            return Delta({}, remove)
        return Delta(put, remove)

    def tell_peers(self, delta: Delta) -> None:
        """Tell the other writers of this process what they may remove. Call it before sending.

        Keys that are removed stay on the list: others may have read the Run before that.
        """
        foreign = self._run.foreign
        addresses = {key for group in self._addresses() for key in group.named or ()}
        groups = {key: frozenset(g.named) for g in self._groups if g.named for key in g.named}
        for key in delta.put:
            if key not in foreign and key not in addresses:
                self._peers[key] = PeerParameter(delta.put[key], groups.get(key, frozenset({key})))

    def done(self, delta: Delta) -> None:
        """Note what AWS has taken."""
        foreign = self._run.foreign
        self._run.own |= delta.put.keys() - foreign
        self._sent.update(delta.put)
        self._run.there.update(delta.put)
        for key in delta.remove:
            self._run.there.pop(key, None)
            self._run.own.discard(key)
            if key in self._user:
                self._unsent.add(key)  # it comes back when there is room
        self._settle(delta)

    def refused(self, delta: Delta) -> None:
        """Note what AWS refuses: it is not sent again."""
        self._refused |= delta.put.keys()
        self._run.own -= set(delta.remove)
        self._settle(delta)

    def crowded(self, announced: frozenset[str]) -> bool:
        """Tell whether AWS would refuse the user's Run object, or it has a key of ours."""
        if announced == self._run.announced or not self._run.own:
            return False
        taken = announced - self._run.announced
        return len(
            self._run.there.keys() | announced
        ) > self._limits.parameters - HEAD_ROOM or not taken.isdisjoint(self._run.own)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send, as far as is known without reading the Run."""
        return self._unplaced or bool(self._unsent.difference(self._left_out))

    @property
    def wrote(self) -> bool:
        """Whether anything of ours is in the Run."""
        return bool(self._sent)

    @property
    def unwritten(self) -> int:
        """Parameters that are missing in the Run although there is room for them."""
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
        return [*self._left_out, *(values_in_manifest(group.values) for group in groups)]

    def found(self) -> dict[str, object]:
        """Return what was found, under the names it has or is going to have in the Run."""
        return expected_names(self._groups, self._user)

    def sent(self, name: str) -> tuple[str, ParameterValue] | None:
        """Return key and value of a parameter of the user's if the Run has it as wanted."""
        key = self._limits.key(name)
        return None if key in self._unsent or key not in self._sent else (key, self._sent[key])

    # -- inside -------------------------------------------------------------------------------

    def _choose(
        self,
        foreign: frozenset[str],
        more: Mapping[str, ParameterValue],
        peers: PeerParameters,
        manifest: str | None,
    ) -> Allocation:
        allocation = allocate(
            foreign,
            groups=self._groups,
            more=more,
            peers=peers,
            user=self._user,
            manifest=manifest,
            most=self._limits.parameters,
        )
        self._left_out = allocation.left_out
        return allocation

    def _keep_first(self, manifest: str | None) -> None:
        """Give up parameters that have another value in the Run, where none can change."""
        if self._limits.changeable:
            return
        for key, wanted in [*self._user.items()]:
            value, there = value_in_run(wanted, manifest), self._run.there.get(key)
            if None not in (value, there) and value != there:
                del self._user[key]
                self._unsent.discard(key)
                self.kept.add(key)

    def _removable(self) -> PeerParameters:
        """Return what other writers of this process have in the Run, where it is unchanged."""
        return {
            key: peer
            for key, peer in list(self._peers.items())
            if key not in self._run.own
            and key not in self._run.announced
            and self._run.there.get(key) == peer.value
        }

    def _addresses(self) -> list[ParameterGroup]:
        return [*(group for group in self._groups if group.address), self._more]

    def _settle(self, delta: Delta) -> None:
        for key, value in delta.put.items():
            # A value that was logged in the meantime is not sent yet.
            wanted = self._user.get(key)
            if wanted == value or isinstance(wanted, TooLong):
                self._unsent.discard(key)
