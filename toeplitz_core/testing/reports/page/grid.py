"""A grid of coloured cells: the form of all pictures of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# The sizes of a cell in pixels, with the number of rows and columns up to which it is used. Two matrices stand beside
# each other in a window of 1280 pixels.
_SIZES = ((8, 40), (16, 23), (22, 20), (42, 10), (10**9, 6.5))
# Cells of at least this size have text in them, and their rows and columns have labels.
_WITH_TEXT = 20
# The width of a character in units of the size of the font.
_CHARACTER = 0.62
_FONT, _SMALL, _GAP = 13.0, 11.0, 6.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Parameters
    ----------
    kind : str
        The class of its colours.
    text : str
        What is written into it, if there is room.
    marked : bool
        Whether it has a frame.
    """

    kind: str
    text: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell at its place, in pixels."""

    cell: Cell
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a row or a column, in pixels; ``turned`` reads upwards."""

    text: str
    x: float
    y: float
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line between blocks, in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells with labels.

    Parameters
    ----------
    name : str
        An identifier that no other picture of the page has.
    title : str
        What the picture shows, in words, for those who do not see it.
    caption : str
        What stands below it.
    rows : sequence of sequence of Cell
    row_labels, column_labels : sequence of str
        Empty for none.
    row_block, column_block : int
        A thick line is drawn after so many rows or columns; 0 for none.
    heading : str
        What stands above it.
    """

    name: str
    title: str
    caption: str
    rows: Sequence[Sequence[Cell]]
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()
    row_block: int = 0
    column_block: int = 0
    heading: str = ""

    @property
    def columns(self) -> int:
        """The number of columns."""
        return max((len(row) for row in self.rows), default=0)

    @property
    def size(self) -> float:
        """The height of a cell."""
        return next(size for most, size in _SIZES if max(self.columns, len(self.rows)) <= most)

    @property
    def has_text(self) -> bool:
        """Whether cells are large enough for text and labels."""
        return self.size >= _WITH_TEXT

    @property
    def inset(self) -> float:
        """The distance of the frame of a cell from its edge: half the width of the frame."""
        return 1.5 if self.has_text else 0.75

    @property
    def font(self) -> float:
        """The size of the text in cells."""
        return min(_FONT, self.size * 0.45)

    @property
    def cell_width(self) -> float:
        """The width of a cell: that of the longest text, if text is shown."""
        longest = max((len(cell.text) for row in self.rows for cell in row), default=0) if self.has_text else 0
        return max(self.size, longest * self.font * _CHARACTER + 8)

    @property
    def left(self) -> float:
        """The room for the labels of rows."""
        if not self.has_text or not self.row_labels:
            return 2.0
        return max(map(len, self.row_labels)) * _SMALL * _CHARACTER + _GAP

    @property
    def _turned(self) -> bool:
        return max(map(len, self.column_labels), default=0) * _SMALL * _CHARACTER + _GAP > self.cell_width

    @property
    def top(self) -> float:
        """The room for the labels of columns."""
        if not self.has_text or not self.column_labels:
            return 2.0
        return max(map(len, self.column_labels)) * _SMALL * _CHARACTER + _GAP if self._turned else _SMALL + _GAP

    @property
    def width(self) -> float:
        return self.left + self.columns * self.cell_width + 2

    @property
    def height(self) -> float:
        return self.top + len(self.rows) * self.size + 2

    @property
    def placed(self) -> Iterator[Placed]:
        """The cells at their places."""
        for number, row in enumerate(self.rows):
            for column, cell in enumerate(row):
                yield Placed(cell, self.left + column * self.cell_width, self.top + number * self.size)

    @property
    def labels(self) -> Iterator[Label]:
        """The labels at their places."""
        if self.left > _GAP:
            for number, text in enumerate(self.row_labels):
                yield Label(text, self.left - _GAP / 2, self.top + (number + 0.5) * self.size)
        if self.top > _GAP:
            for number, text in enumerate(self.column_labels):
                x = self.left + (number + 0.5) * self.cell_width
                yield Label(text, x, self.top - _GAP / 2, turned=self._turned)

    @property
    def lines(self) -> Iterator[Line]:
        """The lines between blocks."""
        right, bottom = self.width - 2, self.height - 2
        for number in range(self.row_block, len(self.rows), self.row_block) if self.row_block else ():
            y = self.top + number * self.size
            yield Line(self.left, y, right, y)
        for number in range(self.column_block, self.columns, self.column_block) if self.column_block else ():
            x = self.left + number * self.cell_width
            yield Line(x, self.top, x, bottom)
