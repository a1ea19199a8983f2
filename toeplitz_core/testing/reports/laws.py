"""The laws as a Markdown table: what each law states, and what breaks it."""

from __future__ import annotations

from collections.abc import Iterable

from toeplitz_core.testing.laws.law import Law


def laws_table(laws: Iterable[Law]) -> str:
    """A Markdown table with one row per law.

    Examples
    --------
    >>> from toeplitz_core.testing.laws import LAWS
    >>> print(laws_table([LAWS["stride"]]))  # doctest: +ELLIPSIS
    | law | what must hold | what breaks it, for instance |
    |---|---|---|
    | stride | With stride s, ... every s-th output ... | a code path for strides that differs from the dense one |
    """
    rows = [f"| {law.name} | {law.statement} | {law.catches} |" for law in laws]
    return "\n".join(("| law | what must hold | what breaks it, for instance |", "|---|---|---|", *rows))
