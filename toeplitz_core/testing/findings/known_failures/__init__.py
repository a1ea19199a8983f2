"""Listed failures: which there are, which of them match, and which are stale."""
