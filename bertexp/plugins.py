"""The user's own files and modules, which register strategies, corpora, objectives, ...

A file is imported as a module of its name, and its folder is appended to ``sys.path``, so that
new processes can import it when they unpickle instances of its classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from bertexp.files import expanded
from bertexp.registry import Registry
from bertexp.validation import UserError

# The group of entry points in which installed packages name their modules.
GROUP = "bertexp.plugins"
_NAMED = re.compile(r"\+{0,2}plugins=(.*)")

# By file, as an absolute path, or module: the file's content, and the folder of its options.
_loaded: dict[str, tuple[bytes, Path | None]] = {}
# Where files were found, by the name that was given.
_found: dict[str, Path] = {}


def load(names: Iterable[str], elsewhere: Path | None = None) -> None:
    """Import the plugins that are not loaded yet, and files that have changed since.

    Args:
        names: files (``.py``), relative to the working directory, and dotted modules.
        elsewhere: a second folder to look for files in: an earlier working directory.

    Raises:
        UserError: one is missing or cannot be imported.
    """
    for name in names:
        path = _file(name, elsewhere) if name.endswith(".py") else None
        place, called = (str(path), path.stem) if path else (name, name)
        content = path.read_bytes() if path else b""
        if place in _loaded:
            if _loaded[place][0] == content:
                continue
            del _loaded[place]
            _unload(called)
            # Python compares its compiled copy by the second and the size.
            Path(importlib.util.cache_from_source(place)).unlink(missing_ok=True)
        _append(path.parent if path else Path.cwd())
        if path:
            _require_own_name(name, path)
        try:
            module = importlib.import_module(called)
        except Exception as error:
            _unload(called)
            if isinstance(error, UserError):
                raise
            line = getattr(error, "lineno", None) or _line(error, name)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            where = f", line {line}" if line else ""
            shown = name if name.isprintable() else repr(name)
            raise UserError(f"plugins: {shown}{where}: cannot be imported ({reason}).") from error
        folder = Path(module.__file__ or "").parent / "conf"
        _loaded[place] = content, folder if folder.is_dir() else None


def installed() -> list[str]:
    """Return the modules that installed packages have registered as plugins."""
    return sorted(entry.module for entry in entry_points(group=GROUP))


def loaded() -> list[str]:
    """Return the loaded plugins for other processes, files with their absolute paths."""
    return [*_loaded]


def listed(value: object) -> list[str]:
    """Return the value of ``plugins`` as a list; it may be a single name."""
    if value is None or isinstance(value, str):
        return [value] if value else []
    if not isinstance(value, Iterable):
        raise UserError(f"plugins={value}: must be a list of files and modules.")
    return [str(name) for name in value]


def named_in(arguments: Sequence[str]) -> list[str]:
    """Return the plugins that a command line names."""
    matches = (_NAMED.fullmatch(argument) for argument in arguments)
    names = (name.strip(" []'\"") for m in matches if m for name in m[1].split(","))
    return [name for name in names if name]


def conf_folders() -> list[Path]:
    """Return the folders ``conf/`` beside the plugins, whose options are chosen by name."""
    return [*dict.fromkeys(folder for _, folder in _loaded.values() if folder)]


def _file(name: str, elsewhere: Path | None) -> Path:
    paths = [folder / expanded(name) for folder in (Path.cwd(), elsewhere) if folder]
    # The configuration of a saved run names its plugins again, without ``elsewhere``.
    paths += [_found[name]] if name in _found else []
    path = next((path.resolve() for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(f"plugins: {name}: there is no such file (looked for {paths[0]}).")
    if not path.stem.isidentifier():
        raise UserError(f"plugins: {name}: must have the name of a module, such as my_lab.py.")
    _found[name] = path
    return path


def _require_own_name(name: str, path: Path) -> None:
    found = importlib.util.find_spec(path.stem)
    if found is None or found.origin is None or Path(found.origin).resolve() != path:
        origin = found.origin if found else None
        raise UserError(
            f"plugins: {name}: another module has its name ({origin}); rename the file."
        )


def _unload(module: str) -> None:
    """Forget a module and what it has registered."""
    sys.modules.pop(module, None)
    for registry in Registry.all:
        registry.forget(module)


def _append(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _line(error: Exception, name: str) -> int | None:
    """Return the last line of the plugin's file that an error passed through."""
    trace = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in trace if Path(frame.filename).name == Path(name).name]
    return lines[-1] if lines else None
