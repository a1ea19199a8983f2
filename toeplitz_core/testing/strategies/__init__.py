"""Hypothesis strategies for cases and calls, and the sweep."""
