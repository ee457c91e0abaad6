"""bertexp: honest experiments on BERT's pre-training objectives."""

from bertexp.files import ensure_home

__version__ = "0.1.0"

# Before any library is loaded that looks for it.
ensure_home()
