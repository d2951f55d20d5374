"""Ranges of sequence numbers: what they cover, where they overlap, what they lack."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeqRange:
    """Events of one writer, by their sequence numbers.

    Attributes:
        first_seq: The first.
        last_seq: The last.
        objects: The addresses of the objects concerned: those that hold them twice, or those that
            should hold them.
    """

    first_seq: int
    last_seq: int
    objects: tuple[str, ...] = ()

    @property
    def events(self) -> int:
        """How many events these are."""
        return self.last_seq - self.first_seq + 1

    def __str__(self) -> str:
        one = self.first_seq == self.last_seq
        text = f"event {self.first_seq}" if one else f"events {self.first_seq} to {self.last_seq}"
        return f"{text} ({', '.join(self.objects)})" if self.objects else text


Ranges = list[tuple[int, int]]
"""Sorted, disjoint ranges: first and last number of each."""


def sweep(pieces: Iterable[SeqRange]) -> tuple[Ranges, list[SeqRange]]:
    """Return what sorted ranges cover together, and where two of them overlap."""
    covered: Ranges = []
    doubled: list[SeqRange] = []
    holder: tuple[str, ...] = ()
    for piece in pieces:
        if covered and piece.first_seq <= covered[-1][1]:
            last = min(piece.last_seq, covered[-1][1])
            objects = tuple(dict.fromkeys((*holder, *piece.objects)))
            doubled.append(SeqRange(piece.first_seq, last, objects))
        if not covered or piece.last_seq > covered[-1][1]:
            holder = piece.objects
        if covered and piece.first_seq <= covered[-1][1] + 1:
            covered[-1] = (covered[-1][0], max(covered[-1][1], piece.last_seq))
        else:
            covered.append((piece.first_seq, piece.last_seq))
    return covered, doubled


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return what ranges cover together; empty and negative ones are left out."""
    pieces = [SeqRange(first, last) for first, last in sorted(ranges) if 1 <= first <= last]
    return sweep(pieces)[0]


def subtract(ranges: Ranges, taken: Ranges) -> Ranges:
    """Return what is left of sorted, disjoint ranges without others."""
    left: Ranges = []
    at = 0
    for first, last in ranges:
        while at < len(taken) and taken[at][1] < first:
            at += 1
        following = at
        while following < len(taken) and taken[following][0] <= last:
            if taken[following][0] > first:
                left.append((first, taken[following][0] - 1))
            first = max(first, taken[following][1] + 1)
            following += 1
        if first <= last:
            left.append((first, last))
    return left


class SeqSet:
    """Sequence numbers that have been seen: a few ranges, however many numbers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, seq: int) -> bool:
        return self.covers(seq, seq)

    def covers(self, first: int, last: int) -> bool:
        """Tell whether all numbers of a range are in it."""
        with self._lock:
            at = bisect_right(self._firsts, first) - 1
            return at >= 0 and last <= self._lasts[at]

    @property
    def ranges(self) -> Ranges:
        """The ranges, sorted."""
        with self._lock:
            return list(zip(self._firsts, self._lasts, strict=True))

    def first_missing(self, seq: int) -> int:
        """Return the first number, from one on, that is not in it."""
        at = bisect_right(self._firsts, seq) - 1
        return self._lasts[at] + 1 if at >= 0 and seq <= self._lasts[at] else seq

    def add(self, first: int, last: int) -> None:
        """Add a range."""
        with self._lock:
            begin = bisect_left(self._lasts, first - 1)
            end = bisect_right(self._firsts, last + 1)
            if begin < end:  # touches or overlaps these
                first = min(first, self._firsts[begin])
                last = max(last, self._lasts[end - 1])
            self._firsts[begin:end] = [first]
            self._lasts[begin:end] = [last]
