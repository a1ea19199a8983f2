"""The declaration of an option, from which every driver takes its name, help text and rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of one option, for every driver.

    Parameters
    ----------
    name : str
        The name on the command line, without the leading dashes, and in ``[tool.toeplitz_core]``.
    kind : type
        ``str``, ``int``, ``float`` or ``bool`` (a flag).
    help : str
        The description of the option for users.
    repeatable : bool
        Whether the option may be given several times.
    least, most : number, optional
        The smallest and the largest value.
    check : callable, optional
        Takes a value and returns the checked value, or raises ``ValueError``.
    metavar : str
        The placeholder of the value in help texts.
    in_table : bool
        Whether ``pyproject.toml`` may have the option. Options that differ from run to run are not allowed there.
    pytest : str
        The replacement in pytest; empty if pytest takes this option.
    short : str
        A letter that is the same option on the command line; empty for none.
    """

    name: str
    kind: type
    help: str
    repeatable: bool = False
    least: float | None = None
    most: float | None = None
    check: Callable[[str], str] | None = None
    metavar: str = ""
    in_table: bool = True
    pytest: str = ""
    short: str = ""

    @property
    def key(self) -> str:
        """The name of the option in Python, with underscores."""
        return self.name.replace("-", "_")

    def checked(self, value: object) -> Any:
        """Check a value of the option and return it; the values of a repeatable option as a tuple without duplicates.

        Raises
        ------
        ValueError
            If the value is wrong; the message has the option, the value and the rule.
        """
        if not self.repeatable:
            return self._checked(value)
        values = [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable) else list(value)
        if not values or not all(isinstance(each, str | os.PathLike) and str(each) for each in values):
            raise ValueError(f"{self.name}={value!r} must be a string or a list of strings, none of them empty")
        return tuple(dict.fromkeys(self._checked(each) for each in values))

    def _checked(self, value: object) -> Any:
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{self.name}={value!r} must be true or false")  # also from a file
            return value
        if self.kind is str:
            if not isinstance(value, str | os.PathLike) or not str(value):
                raise ValueError(f"{self.name}={value!r} must be a string that is not empty")
            return str(value) if self.check is None else self.check(str(value))
        what = "a whole number" if self.kind is int else "a number"
        numbers = int if self.kind is int else int | float
        if not isinstance(value, numbers) or isinstance(value, bool) or not self._in_range(value):
            raise ValueError(f"{self.name}={value!r} must be {what}{self._range}")
        return self.kind(value)

    def _in_range(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def _range(self) -> str:
        if self.most is None:
            return "" if self.least is None else f" >= {self.least:g}"
        return f" from {self.least:g} to {self.most:g}"
