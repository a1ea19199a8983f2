"""Paths of the tests' files."""

from __future__ import annotations

from pathlib import Path

from toeplitz_core.testing.findings.shared import KNOWN_TORCH as KNOWN_TORCH

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent
DATA = TESTS / "data"
KNOWN_JAX = DATA / "known_jax.toml"
