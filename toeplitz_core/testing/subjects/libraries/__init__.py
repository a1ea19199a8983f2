"""Subjects from libraries other than torch, one library per file."""
