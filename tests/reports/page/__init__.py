"""Tests of toeplitz_core.testing.reports.page."""
