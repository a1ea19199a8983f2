"""Tensors as lines of text: their numbers, or a summary."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator

import numpy as np
import torch

WIDTH = 80
# Larger tensors are summarised.
SMALL = 64
# Tables and matrices with more rows are not drawn.
ROWS = 48


def field(name: str, text: str) -> str:
    """A name and a text, folded to the width, but not within an index."""
    whole = re.sub(r"(?<=\d), (?=\d)", ",\N{NO-BREAK SPACE}", f"{name:<10}{text}")
    folded = textwrap.fill(whole, WIDTH, subsequent_indent=" " * 10, break_long_words=False)
    return folded.replace("\N{NO-BREAK SPACE}", " ")


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as cases write it."""
    return "x".join(map(str, shape))


def tensor(
    name: str, values: torch.Tensor, wrong: torch.Tensor | None = None, *, digits: int = 6, unknown: bool = False
) -> Iterator[str]:
    """The numbers of a small tensor, or a summary of a large one; wrong numbers are marked with a star.

    With ``unknown``, there is a question mark in place of each number that is marked.
    """
    if len(name) >= 10:
        yield name
        name = ""
    if values.numel() <= SMALL and (printed := _numbers(name, values, wrong, digits, unknown=unknown)):
        yield from printed
        return
    parts = torch.view_as_real(values) if values.is_complex() else values
    low, high = (number_text(v) for v in torch.aminmax(parts.double().nan_to_num()))
    odd = values.numel() - int(values.isfinite().sum()) if values.dtype.is_floating_point else 0
    said = f"{values.numel():,} numbers, {int(values.count_nonzero()):,} not zero, from {low} to {high}"
    yield field(name, said + f", {odd:,} NaN or infinite" * bool(odd))


def _numbers(name: str, values: torch.Tensor, wrong: torch.Tensor | None, digits: int, *, unknown: bool) -> list[str]:
    """The rows of a tensor, one per line; empty if a row is too long for a line, or if there are too many rows."""
    width = max((len(number_text(v, digits)) for v in values.flatten()), default=0)
    lines = []
    columns = (-1, values.shape[-1] if values.dim() else 1) if values.numel() else (0, 1)
    table = values.reshape(columns)
    marks = [[" *"[mark] for mark in row] for row in wrong.reshape(columns)] if wrong is not None else None
    for n, row in enumerate(table):
        index = np.unravel_index(n, values.shape[:-1]) if values.dim() > 1 else ()
        label = f"{name if n == 0 else '':<10}"
        where = f"[{', '.join(str(int(i)) for i in index)}] " if index else ""
        words = [f"{number_text(v, digits):>{width}}" for v in row]
        if marks is not None and unknown:
            words = [f"{'?':>{width}}" if mark == "*" else word for word, mark in zip(words, marks[n], strict=True)]
        elif marks is not None:
            words = [word + mark for word, mark in zip(words, marks[n], strict=True)]
        lines.append(label + where + " ".join(words))
    if not lines:
        return [f"{name:<10}no numbers"]
    return lines if max(map(len, lines)) <= WIDTH and len(lines) <= ROWS else []


def number_text(value: torch.Tensor, digits: int = 6) -> str:
    """A number with some digits; all digits of a whole number, because it is compared with ==."""
    number = value.item()
    if isinstance(number, complex):
        return f"{_real(number.real, digits)}{'+' * (number.imag >= 0)}{_real(number.imag, digits)}j"
    return _real(number, digits)


def _real(number: float, digits: int) -> str:
    whole = math.isfinite(number) and number == int(number) and abs(number) < 2**53
    return str(int(number)) if whole else f"{number:.{digits}g}"
