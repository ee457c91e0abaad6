"""bertexp: honest experiments on BERT's pre-training objectives."""

from importlib import import_module

from bertexp.files import ensure_home

__version__ = "0.1.0"

# Before any library is loaded that looks for it.
ensure_home()

# Python puts a package in the place of its name when it loads it. Functions below have the names of
# two packages, which are therefore loaded before.
for _package in ("compare", "inspect"):
    import_module(f"bertexp.{_package}")

from bertexp.api import compare, inspect, load, run, sweep  # noqa: E402
from bertexp.validation import UserError  # noqa: E402

__all__ = ["UserError", "compare", "inspect", "load", "run", "sweep"]
