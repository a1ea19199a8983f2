"""Scripts that show a failure without this package: operands as text, subjects, and the parts of a script."""
