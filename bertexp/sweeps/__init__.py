"""Sweeps: which jobs are left to do, what each prints, and how they ended."""
