"""What `show` and `replay` print about single cases."""
