"""Property-based tests of convolutions against their matrix. Needs the extra ``testing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toeplitz_core.testing.decorator import parametrize_with_laws as parametrize_with_laws

__all__ = ["parametrize_with_laws"]


def __getattr__(name: str) -> object:
    # Every worker imports this package, and must start in milliseconds: without pytest and Hypothesis.
    if name == "parametrize_with_laws":
        from toeplitz_core.testing.decorator import parametrize_with_laws  # noqa: PLC0415

        return parametrize_with_laws
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
