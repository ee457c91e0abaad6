"""Sweeps: which jobs are left to do, what is said meanwhile, and what came of them."""
