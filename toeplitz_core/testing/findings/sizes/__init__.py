"""The smallest case of a failure, and from which sizes on it fails."""
