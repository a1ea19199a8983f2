"""Tests of toeplitz_core.testing.support."""
