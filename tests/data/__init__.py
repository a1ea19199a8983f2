"""Tests of toeplitz_core.testing.data."""
