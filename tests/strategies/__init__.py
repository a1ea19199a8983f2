"""Tests of toeplitz_core.testing.strategies."""
