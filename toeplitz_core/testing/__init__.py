"""Property-based tests that check convolutions against their matrix. Needs the extra ``testing``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toeplitz_core.testing.assertion import assert_conv2d as assert_conv2d
    from toeplitz_core.testing.checking import check as check
    from toeplitz_core.testing.decorator import parametrize_with_laws as parametrize_with_laws

__all__ = ["assert_conv2d", "check", "parametrize_with_laws"]

# Every worker imports this package and must start in milliseconds, so pytest and Hypothesis are not imported here.
# No module may have the name of a public function: importing that module would replace the function.
_DOORS = {"assert_conv2d": "assertion", "check": "checking", "parametrize_with_laws": "decorator"}


def __getattr__(name: str) -> object:
    if name in _DOORS:
        return getattr(importlib.import_module(f"{__name__}.{_DOORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
