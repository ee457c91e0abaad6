"""Sweeps: the jobs that are left, their output, and how they ended."""
