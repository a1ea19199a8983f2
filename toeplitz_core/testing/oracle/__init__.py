"""The oracle: exact results and gradients, and the error that a computed one may have."""
