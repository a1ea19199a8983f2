"""Paths of the tests' files."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent
DATA = TESTS / "data"
KNOWN_TORCH = DATA / "known_torch.toml"
KNOWN_JAX = DATA / "known_jax.toml"
