"""What an event with values is to the buffer; see ``asynctrack._capture.packing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Packed(Protocol):
    """An event that refers to values, or one that the worker has to finish."""

    body: bytes
    ready: bool

    def __len__(self) -> int:
        """Return the bytes that it takes, with the values that are new."""

    def prepare(self) -> None:
        """Do what is left until it can be written. Raises nothing."""

    def missing(self, held: Mapping[str, int]) -> int:
        """Return the bytes of the values that an artifact lacks for it."""

    def lines(self, prefix: bytes, seq: int, held: Mapping[str, int]) -> bytes:
        """Return its line, behind the lines of the values that an artifact lacks for it."""

    def hold(self, held: dict[str, int]) -> None:
        """Note that an artifact has its values from now on."""
