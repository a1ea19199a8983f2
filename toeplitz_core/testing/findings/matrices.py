"""The matrix that a subject has in place of ``T``, next to ``T``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Matrices:
    """The right matrix and the matrix of a subject, for the case of a finding.

    A row belongs to an element of the result, a column to an element of the image. For a gradient, a column belongs to
    an element of the incoming gradient.

    Parameters
    ----------
    quantity : str
        What the rows are: the ``output``, or the operand whose gradient they are.
    numbered : bool
        Whether the other operands hold 1, 2, 3, ... in the order of memory. If not, they are those of the case.
    rows : tuple of int
        The shape of the right result, with a batch axis.
    actual_rows : tuple of int
        The shape of the result that the subject returns.
    columns : tuple of int
        The shape of the images or gradients, with a batch axis.
    expected, actual : tuple of tuple of float
        The entries, row by row.
    offset, actual_offset : tuple of float
        The results for an image of zeros, which are the bias; empty for a gradient.

    Examples
    --------
    >>> one = Matrices("output", True, (1, 1, 1, 2), (1, 1, 1, 2), (1, 1, 1, 2), ((1, 0), (0, 1)), ((1, 0), (1, 0)))
    >>> one.wrong
    ((1, 0), (1, 1))
    """

    quantity: str
    numbered: bool
    rows: tuple[int, ...]
    actual_rows: tuple[int, ...]
    columns: tuple[int, ...]
    expected: Rows
    actual: Rows
    offset: tuple[float, ...] = ()
    actual_offset: tuple[float, ...] = ()

    def document(self) -> dict[str, Any]:
        """A dictionary for JSON. Numbers that are not finite are words in it."""
        return {
            "quantity": self.quantity,
            "numbered": self.numbered,
            **{name: list(getattr(self, name)) for name in ("rows", "actual_rows", "columns")},
            **{name: [_words(row) for row in getattr(self, name)] for name in ("expected", "actual")},
            **{name: _words(getattr(self, name)) for name in ("offset", "actual_offset")},
        }

    @property
    def comparable(self) -> bool:
        """Whether both have the same shape."""
        return self.rows == self.actual_rows

    @property
    def wrong(self) -> tuple[tuple[int, int], ...]:
        """The rows and columns of the entries that differ; empty if the shapes do."""
        if not self.comparable:
            return ()
        rows, columns = np.nonzero(np.array(self.expected) != np.array(self.actual))
        return tuple(zip(rows.tolist(), columns.tolist(), strict=True))

    @property
    def wrong_offsets(self) -> tuple[int, ...]:
        """The rows whose results for an image of zeros differ."""
        if not self.comparable:
            return ()
        return tuple(np.flatnonzero(np.array(self.offset) != np.array(self.actual_offset)).tolist())

    @property
    def differ(self) -> bool:
        """Whether anything differs."""
        return not self.comparable or bool(self.wrong or self.wrong_offsets)


def _words(row: tuple[float, ...]) -> list[float | str]:
    return [value if math.isfinite(value) else str(value) for value in row]
