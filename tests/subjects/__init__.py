"""Tests of toeplitz_core.testing.subjects."""
