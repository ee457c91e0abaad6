"""The user's home folder, where there is none."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set a home folder, a temporary one if need be: every library has its cache there.

    A process whose user id has no entry in the system's list of users (``docker run --user``)
    has none without ``HOME``.
    """
    if os.path.expanduser("~") != "~":
        return
    user = os.getuid()
    home = Path(tempfile.gettempdir()) / f"bertexp-{user}"
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != user:
            raise PermissionError
    except OSError:
        # Somebody else's.
        home = Path(tempfile.mkdtemp(prefix="bertexp-"))
    os.environ["HOME"] = str(home)
    # Torch and others look for the user's name.
    os.environ.setdefault("LOGNAME", str(user))
    print(f"There is no home folder; {home} is used (set HOME to choose another).", file=sys.stderr)
