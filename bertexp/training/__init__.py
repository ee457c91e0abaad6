"""Training: batch plan, budget and schedules, the loop."""
