"""A run as one page for browsers."""
