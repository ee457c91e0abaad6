"""A home folder for users who have none."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set ``HOME`` to a temporary folder if there is no home: libraries keep their caches there.

    A user id that the system does not know (``docker run --user``) has none without ``HOME``.
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
        # It belongs to somebody else.
        home = Path(tempfile.mkdtemp(prefix="bertexp-"))
    os.environ["HOME"] = str(home)
    # Torch and others look up the user's name.
    os.environ.setdefault("LOGNAME", str(user))
    print(f"There is no home folder; {home} is used (set HOME to choose another).", file=sys.stderr)
