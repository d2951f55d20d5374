"""Few pieces instead of many small ones: each question of a Run that goes on adds some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from asynctrack._reading.index.catalog import Layer, PieceFile
from asynctrack._reading.index.columns import TABLES
from asynctrack._reading.index.pieces import CHARACTERS, ROWS, Piece

FULL: Final = 250_000
"""Rows of a piece that is large enough: it is never written again."""
FEW: Final = 8
"""Pieces of a table that are left alone, whatever their sizes."""


def mergeable(rows: Sequence[int], few: int = FEW, full: int = FULL) -> int:
    """Return how many of the last pieces of a table become one; 0 where none do.

    A piece is merged with what came after it once that is at least half as large. So every row is
    written again as often as the logarithm of ``full`` at the most, and of pieces that are not full
    there are ``few`` at the most and a logarithm.

    Args:
        rows: Of each piece, in the order in which they were written.
        few: No more pieces than these are left alone.
        full: Rows of a piece that is never written again.

    Example:
        >>> mergeable([250_000, 4_000, 10, 10, 10, 10, 10, 10, 10, 10])
        8
    """
    small = 0
    for count in reversed(rows):
        if count >= full:
            break
        small += 1
    if small <= few:
        return 0
    merged, total = 1, rows[-1]
    for at in range(2, small + 1):
        if rows[-at] <= 2 * total:
            merged = at
        total += rows[-at]
    return merged if merged > 1 else 0


def merge(folder: Path, layer: Layer, new_name: Callable[[str], str]) -> Layer:
    """Write small pieces of a layer as one, and return the layer with it; the same where there is
    nothing to do. The old files stay: somebody may be reading them.

    Args:
        folder: Where the pieces are.
        layer: What is there.
        new_name: Gives a table's next piece its name.

    Raises:
        OSError: The new piece cannot be written, or an old one not be read.
    """
    pieces = list(layer.pieces)
    for table in TABLES:
        of_table = [piece for piece in pieces if piece.table == table]
        count = mergeable([piece.rows for piece in of_table])
        if count:
            old = of_table[-count:]
            first = pieces.index(old[0])
            new = _merged(folder, table, old, new_name(table))
            pieces = [piece for piece in pieces if piece not in old]
            pieces.insert(first, new)
    if len(pieces) == len(layer.pieces):
        return layer
    return replace(layer, pieces=tuple(pieces))


def _merged(folder: Path, table: str, old: Sequence[PieceFile], name: str) -> PieceFile:
    from pyarrow import concat_tables, parquet

    with ThreadPoolExecutor(1, thread_name_prefix="asynctrack-index") as pool:
        new = Piece(folder / name, table, pool)
        groups: list[Any] = []
        for piece in old:
            with parquet.ParquetFile(folder / piece.name) as file:
                for number in range(file.num_row_groups):
                    groups.append(file.read_row_group(number))
                    if sum(map(len, groups)) >= ROWS or _characters(groups) >= CHARACTERS:
                        new.add_table(concat_tables(groups))
                        groups = []
        if groups:
            new.add_table(concat_tables(groups))
        new.close()
    return PieceFile(name, table, new.rows, new.bytes)


def _characters(groups: Sequence[Any]) -> int:
    return sum(group.nbytes for group in groups)
