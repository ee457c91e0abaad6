"""Evaluation: the same frozen questions for every run."""
