"""torch, and whatever has the signature of ``F.conv2d``."""
