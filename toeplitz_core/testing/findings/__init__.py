"""Known failures: lists of them, the conditions under which they occur, and when they are stale."""
