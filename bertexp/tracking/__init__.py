"""Tracking: where a run's metrics are logged, and the progress that its user sees."""
