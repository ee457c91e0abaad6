"""Fine-tuning: labelled data, a head on the first token, and its metrics."""
