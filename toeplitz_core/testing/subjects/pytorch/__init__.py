"""Subjects on torch tensors: torch itself, and callables with the signature of ``F.conv2d``."""
