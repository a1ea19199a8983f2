"""Tests of toeplitz_core.testing.run.comparison."""
