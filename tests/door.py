"""The former name of ``forkserver``."""

from forkserver import ForkServer as Door
from forkserver import Process

__all__ = ["Door", "Process"]
