"""Which requests a fault is done to, and the record of them: what the test and the proxy share."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from tests.support.faults import Fault
from tests.support.seen import Outcome, Request

Condition = Callable[[tuple[Request, ...]], bool]


@dataclass(frozen=True)
class Match:
    """Which requests a rule is for. Everything given must fit.

    Attributes:
        method: As `PUT`.
        path: A glob over the decoded path; `*` matches `/` too.
        operation: As `PutObject`, `UpdateTrialComponent`.
        when: Any other condition. For faults that act before the body is read, its body is empty.
        skip: Let this many fitting requests through first.
        every: After that, only every k-th one.
        probability: Of those, this share, drawn with `seed`.
        times: At most so many in all; None for no end.
    """

    method: str | None = None
    path: str | None = None
    operation: str | None = None
    when: Callable[[Request], bool] | None = None
    skip: int = 0
    every: int = 1
    probability: float = 1.0
    seed: int = 0
    times: int | None = None

    def fits(self, request: Request) -> bool:
        return (
            (self.method is None or self.method == request.method)
            and (self.path is None or fnmatchcase(request.path, self.path))
            and (self.operation is None or self.operation == request.operation)
            and (self.when is None or self.when(request))
        )

    @property
    def looks_at_requests(self) -> bool:
        return any((self.method, self.path, self.operation, self.when))


class Rule:
    """One fault in force, until it is used up, removed or healed."""

    def __init__(self, fault: Fault, match: Match) -> None:
        self.fault = fault
        self.match = match
        self.matched = 0
        """Requests that fitted."""
        self.applied = 0
        """Requests the fault was done to."""
        self._random = random.Random(match.seed)
        self.released = asyncio.Event()

    def takes(self, request: Request | None) -> bool:
        if self.match.times is not None and self.applied >= self.match.times:
            return False
        if request is not None and not self.match.fits(request):
            return False
        self.matched += 1
        count = self.matched - self.match.skip
        if count <= 0 or count % self.match.every:
            return False
        if self.match.probability < 1 and self._random.random() >= self.match.probability:
            return False
        self.applied += 1
        return True


class Board:
    """The rules in force and the requests seen. Safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rules: list[Rule] = []
        self._seen: list[Request] = []

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._changed:
            return tuple(self._seen)

    def add(self, rule: Rule) -> None:
        with self._changed:
            self._rules.append(rule)

    def remove(self, rule: Rule) -> None:
        with self._changed:
            self._rules = [other for other in self._rules if other is not rule]

    def clear(self) -> list[Rule]:
        """Take all rules out and return them."""
        with self._changed:
            rules, self._rules = self._rules, []
        return rules

    def choose(self, request: Request | None, of_kind: Callable[[Fault], bool]) -> Rule | None:
        """The first rule with such a fault that takes the request (None: a new connection)."""
        with self._changed:
            rules = [rule for rule in self._rules if of_kind(rule.fault)]
            return next((rule for rule in rules if rule.takes(request)), None)

    def arrived(
        self,
        connection: int,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Request:
        with self._changed:
            number = len(self._seen) + 1
            now = time.monotonic()
            request = Request(number, connection, method, path, query, headers, received=now)
            self._seen.append(request)
            self._changed.notify_all()
        return request

    def note(self, number: int, **changes: Any) -> Request:
        with self._changed:
            request = replace(self._seen[number - 1], **changes)
            self._seen[number - 1] = request
            self._changed.notify_all()
        return request

    def end(self, number: int, outcome: Outcome, status: int | None = None) -> Request:
        return self.note(number, outcome=outcome, status=status, ended=time.monotonic())

    def wait_for(self, condition: Condition, timeout: float) -> tuple[Request, ...]:
        with self._changed:
            if not self._changed.wait_for(lambda: condition(tuple(self._seen)), timeout):
                seen = "\n".join(f"{s.method} {s.path} {s.outcome} {s.status}" for s in self._seen)
                raise TimeoutError(f"not within {timeout} s. Seen by the proxy:\n{seen}")
            return tuple(self._seen)
