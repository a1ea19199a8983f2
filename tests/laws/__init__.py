"""Tests of toeplitz_core.testing.laws."""
