"""Helpers for every stage of the pipeline: suggestions for typos, atomic files, finding modules, interrupts."""
