"""Property-based tests of convolutions against their matrix. Needs the extra ``testing``."""
