"""Benchmarks: bertexp against what one would use otherwise, measured in one run."""
