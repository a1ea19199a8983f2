"""Other libraries than torch, one per file."""
