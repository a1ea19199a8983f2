"""Hypothesis strategies for cases and calls; the sweep."""
