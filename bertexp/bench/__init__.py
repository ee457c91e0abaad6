"""Benchmarks: bertexp against Hugging Face's Trainer, or against itself at another commit."""
