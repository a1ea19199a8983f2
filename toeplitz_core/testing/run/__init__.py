"""Subjects x laws x dtypes x devices: options, plan, session."""
