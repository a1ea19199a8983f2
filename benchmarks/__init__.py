"""Benchmarks: ratios to limits and peers that run beside us. ``python -m benchmarks`` prints them."""
