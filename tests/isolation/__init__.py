"""Tests of toeplitz_core.testing.isolation."""
