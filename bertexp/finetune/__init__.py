"""Fine-tuning: labelled data, a sequence head, and what it is worth on them."""
