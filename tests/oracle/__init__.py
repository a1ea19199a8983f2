"""Tests of toeplitz_core.testing.oracle."""
