"""The pictures of ``T``, of the matrix that a subject has, and of their difference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toeplitz_core.testing.findings.matrices import Matrices, Rows
from toeplitz_core.testing.laws.difference import written
from toeplitz_core.testing.reports.page.grid import Cell, Grid

# The number of colours for entries, from the smallest to the largest.
SHADES = 9
# The largest number of entries that are listed.
_LISTED = 40
_AXES = {
    "output": ("image", "output channel", "row", "column"),
    "input": ("image", "input channel", "row", "column"),
    "weight": ("output channel", "input channel", "kernel row", "kernel column"),
    "bias": ("output channel",),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that is wrong.

    Parameters
    ----------
    row, column : str
        Where it is, in words.
    actual, expected : str
    """

    row: str
    column: str
    actual: str
    expected: str


@dataclass(frozen=True, slots=True)
class MatrixPictures:
    """The pictures of one finding.

    Parameters
    ----------
    grids : tuple of Grid
        ``T``, the matrix of the subject, and the difference if both have the same shape.
    statement : str
        What rows and columns are, and how many entries differ.
    entries : tuple of Entry
        The entries that are wrong, or the first of them.
    more : int
        How many more there are.
    """

    grids: tuple[Grid, ...]
    statement: str
    entries: tuple[Entry, ...]
    more: int


def matrix_pictures(name: str, found: Matrices) -> MatrixPictures:
    """The pictures of matrices; ``name`` is an identifier that no other finding of the page has."""
    has_bias = any((*found.offset, *found.actual_offset))
    of_rows = _Axis.of(found.rows, _AXES[found.quantity])
    of_columns = _Axis.of(found.columns, _AXES["input" if found.quantity == "output" else "output"])
    column_labels = (*of_columns.labels, *["b"] * has_bias)
    right = _with_offset(found.expected, found.offset) if has_bias else found.expected
    actual = _with_offset(found.actual, found.actual_offset) if has_bias else found.actual
    shades = _shades(right)
    wrong = {*found.wrong, *((row, len(of_columns.labels)) for row in found.wrong_offsets)}
    size = f"{len(right)} rows and {len(right[0])} columns"
    symbol = "T" if found.quantity == "output" else "The right matrix"

    def grid(part: str, heading: str, title: str, rows: Sequence[Sequence[Cell]], axis: _Axis) -> Grid:
        blocks = (axis.block, of_columns.block)
        return Grid(f"{name}-{part}", title, "", rows, axis.labels, column_labels, *blocks, heading)

    cells = [[_entry(value, shades) for value in row] for row in right]
    grids = [grid("right", symbol, f"{symbol}: {size}.", cells, of_rows)]
    cells = [[_entry(v, shades, marked=(i, j) in wrong) for j, v in enumerate(row)] for i, row in enumerate(actual)]
    returned = of_rows if found.comparable else _Axis.of(found.actual_rows, _AXES[found.quantity])
    said = f"{len(wrong)} of them differ." if found.comparable else "The shape of the result differs."
    grids.append(
        grid(
            "actual", "The subject's matrix", f"The matrix of the subject: {len(actual)} rows. {said}", cells, returned
        )
    )
    if found.comparable:
        cells = [
            [
                _difference(a, b) if (i, j) in wrong else Cell("zero", "·")
                for j, (a, b) in enumerate(zip(*pair, strict=True))
            ]
            for i, pair in enumerate(zip(right, actual, strict=True))
        ]
        grids.append(grid("difference", "Difference", f"Their difference: {said}", cells, of_rows))
    entries = list(_entries(of_rows, of_columns, right, actual, wrong))
    return MatrixPictures(
        tuple(grids), _statement(found, of_rows, of_columns, len(wrong), has_bias=has_bias),
        tuple(entries[:_LISTED]), max(0, len(entries) - _LISTED),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Axis:
    """The rows or the columns of a matrix.

    Parameters
    ----------
    labels : tuple of str
        The index of each, without axes that have one place.
    words : tuple of str
        The same in words.
    names : str
        What the numbers of a label count.
    block : int
        The number of rows or columns of one channel; 0 if there is one channel.
    """

    labels: tuple[str, ...]
    words: tuple[str, ...]
    names: str
    block: int

    @classmethod
    def of(cls, shape: tuple[int, ...], names: tuple[str, ...]) -> _Axis:
        """The axis whose places are the elements of a tensor."""
        kept = [at for at, size in enumerate(shape) if size > 1] or [len(shape) - 1]
        places = [_unravelled(number, shape) for number in range(math.prod(shape))]
        labels = tuple(",".join(str(place[at]) for at in kept) for place in places)
        words = tuple(", ".join(f"{names[at]} {place[at]}" for at in kept) for place in places)
        block = math.prod(shape[2:])
        return cls(labels, words, ", ".join(names[at] for at in kept), block if 1 < block < math.prod(shape) else 0)


def _unravelled(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    place = []
    for size in reversed(shape):
        number, at = divmod(number, size)
        place.append(at)
    return tuple(reversed(place))


def _with_offset(rows: Rows, offset: tuple[float, ...]) -> Rows:
    """Rows with the bias as the last column."""
    return tuple((*row, last) for row, last in zip(rows, offset, strict=True))


def _shades(rows: Rows) -> dict[float, int]:
    """The shade of each number of the right matrix, by its rank."""
    numbers = sorted({value for row in rows for value in row if value})
    steps = max(1, len(numbers) - 1)
    return {value: at * (SHADES - 1) // steps for at, value in enumerate(numbers)}


def _entry(value: float, shades: dict[float, int], *, marked: bool = False) -> Cell:
    if value == 0:
        return Cell("zero", "0" if marked else "·", marked)
    shade = shades.get(value)
    return Cell("other" if shade is None else f"v{shade}", _number(value), marked)


def _difference(expected: float, actual: float) -> Cell:
    change = actual - expected
    return Cell("bad", _number(change) if change <= 0 or not math.isfinite(change) else f"+{_number(change)}")


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _entries(rows: _Axis, columns: _Axis, right: Rows, actual: Rows, wrong: set[tuple[int, int]]) -> Iterator[Entry]:
    for row, column in sorted(wrong):
        where = columns.words[column] if column < len(columns.words) else "image of zeros (the bias)"
        got, should = written(actual[row][column], right[row][column])
        yield Entry(rows.words[row], where, got, should)


def _statement(found: Matrices, rows: _Axis, columns: _Axis, wrong: int, *, has_bias: bool) -> str:
    """What is drawn, in words."""
    what = "the result" if found.quantity == "output" else f"the {found.quantity} gradient"
    basis = "the image" if found.quantity == "output" else "the incoming gradient"
    others = {
        "output": "The weight holds", "input": "The weight holds", "weight": "The image holds", "bias": "Operands hold"
    }[found.quantity]  # fmt: skip
    numbers = f"{others} 1, 2, 3 and so on" if found.numbered else f"{others} the numbers of the case"
    said = f"Each row is an element of {what} ({rows.names}). Each column is an element of {basis} ({columns.names})."
    said += " The last column, b, is the result for an image of zeros." * has_bias
    if found.comparable:
        differ = f"{wrong} of {len(found.expected) * (len(found.expected[0]) + has_bias)} entries differ."
    else:
        shapes = (_shape(found.actual_rows), _shape(found.rows))
        differ = f"The subject returns the shape {shapes[0]}, not {shapes[1]}."
    return f"{differ} {said} {numbers}."


def _shape(sizes: tuple[int, ...]) -> str:
    return "\N{MULTIPLICATION SIGN}".join(map(str, sizes))
