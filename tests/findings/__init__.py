"""Tests of toeplitz_core.testing.findings."""
