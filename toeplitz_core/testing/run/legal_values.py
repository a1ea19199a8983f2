"""The legal values of options, by the kind of value."""

from __future__ import annotations

from toeplitz_core.testing.case.case import DEVICES, check_device
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.case.dtypes import ALIASES, CASE_DTYPES
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.oracle.arithmetics import by_dtype, check_arithmetic
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.support.spelling import named

__all__ = ["ALL_DEVICES", "ALL_DTYPES", "ALL_LAWS", "arithmetic", "by_dtype", "condition", "device", "dtype", "law"]

ALL_LAWS = tuple(LAWS)
ALL_DTYPES = CASE_DTYPES
ALL_DEVICES = DEVICES

arithmetic, device = check_arithmetic, check_device


def law(name: str) -> str:
    """The name of a law; ``ValueError`` if there is none, as in all functions here."""
    return named(f"law={name!r}", name, LAWS).name


def dtype(name: str) -> str:
    """The name of a dtype."""
    return named(f"dtype={name!r}", name, {dtype: dtype for dtype in CASE_DTYPES}, ALIASES)


def profile(name: str) -> str:
    """The name of a profile."""
    return named(f"profile={name!r}", name, PROFILES).name


def condition(text: str) -> str:
    """A condition on cases."""
    try:
        Condition(text)
    except ValueError as error:
        raise ValueError(f"where={text!r}: {error}") from None
    return text
