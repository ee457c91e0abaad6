"""Comparison: runs side by side, and whether their differences are real."""
