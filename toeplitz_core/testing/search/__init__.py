"""Find a case that breaks a law: drawing, counting, shrinking, and how much effort is made."""
