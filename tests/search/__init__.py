"""Tests of toeplitz_core.testing.search."""
