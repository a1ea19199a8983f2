"""``F.conv2d``, or what ``--subject`` names, held against the convolution's matrix on generated cases: the main job."""

from __future__ import annotations

from toeplitz_core.testing.suite import test_law

__all__ = ["test_law"]
