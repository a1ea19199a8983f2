"""Search for a case that breaks a law: drawing, counting, shrinking, and the amount of effort."""
