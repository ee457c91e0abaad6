"""Tracking: where a run's numbers go, and what its user sees meanwhile."""
