"""bertexp: honest experiments on BERT's pre-training objectives."""

__version__ = "0.1.0"
