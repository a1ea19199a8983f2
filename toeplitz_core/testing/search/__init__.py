"""Find a case that breaks a law."""
