"""Tests of toeplitz_core.testing.case."""
