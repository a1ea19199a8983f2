"""The main job: check ``F.conv2d``, or the subject of ``--subject``, against the matrix on generated cases."""

from __future__ import annotations

from toeplitz_core.testing.suite import test_law

__all__ = ["test_law"]
