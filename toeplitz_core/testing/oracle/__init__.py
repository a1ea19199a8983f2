"""What must come out, and how far off it may be."""
