"""Tests of the minimal core."""
