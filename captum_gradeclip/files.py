"""Files that are whole or not there: written beside their place, and moved into it."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from platform import node

_PROCESS = uuid.uuid4().hex[:8]
"""Tells this process from an earlier one that had the same number, as in containers each of them has."""
_NAME = re.compile(r"\.gradeclip-([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}(\..*)?")
_HOST = f"{zlib.crc32(node().encode()):08x}"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Context for writing a file: it gives the path of a temporary one in the same folder, which takes its place at the end.

    On any exception, an interrupt included, the temporary file is removed and what lay at ``path`` stays. What a killed
    process has left of its temporary files in this folder is removed first.

    Args:
        path: the file; its folder has to be there. A file that lies there is replaced.

    Yields:
        A path with the same suffix, where nothing lies yet.

    Raises:
        OSError: if it cannot be written; the error names ``path``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as part:
    ...         _ = part.write_text("whole")
    ...     [(one.name, one.read_text()) for one in Path(folder).iterdir()]
    [('a.txt', 'whole')]
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    sweep(path.parent)
    part = temporary(path.parent, path.suffix)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(part):
            raise type(error)(error.errno, error.strerror or str(error), str(path)) from None
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file, see :func:`replacing`."""
    with replacing(path) as part, open(part, "xb") as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Writes a text in UTF-8, see :func:`replacing`."""
    write_bytes(path, content.encode())


def write_texts(folder: str | os.PathLike[str], contents: Mapping[str, str]) -> None:
    """Writes texts that belong together: none of the files is replaced before all of them have been written.

    Args:
        folder: where they lie; it has to be there.
        contents: the texts by the names of their files.
    """
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(replacing(Path(folder, name))).write_bytes(content.encode())


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Writes a JSON file, see :func:`to_json` and :func:`replacing`."""
    write_bytes(path, to_json(content, indent=2).encode())


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, object]) -> None:
    """Writes arrays by name, compressed, as :func:`numpy.load` reads them; see :func:`replacing`."""
    import numpy as np  # takes a while to import, and the shell's help does without

    write: Callable[..., None] = np.savez_compressed  # numpy's own types take names of arrays for its other arguments
    file = io.BytesIO()
    write(file, **arrays)
    write_bytes(path, file.getvalue())


def to_json(content: object, indent: int | None = None) -> str:
    r"""JSON as its standard has it: numbers that are not finite become ``null``.

    Args:
        content: dictionaries, lists, texts, numbers, booleans and ``None``.
        indent: how far each level is indented; ``None`` (default) for all on one line.

    >>> to_json({"a": float("nan"), "b": [1.5, "ü", "\udcfc"]})
    '{"a": null, "b": [1.5, "ü", "\\udcfc"]}'
    """
    written = json.dumps(_finite(content), indent=indent, ensure_ascii=False, allow_nan=False)
    # A surrogate is no character of UTF-8, but has an escape sequence; it can stand inside of strings only.
    return re.sub(r"[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", written)


def temporary(folder: Path, suffix: str = "") -> Path:
    """A path for a hidden file or folder of this process, which :func:`sweep` removes once the process has ended.

    Args:
        folder: where it is to lie.
        suffix: how its name ends, ``".png"`` for example (default: nothing).
    """
    return folder / f".gradeclip-{_HOST}-{os.getpid()}-{_PROCESS}-{uuid.uuid4().hex[:8]}{suffix}"


@contextmanager
def scratch() -> Iterator[Path]:
    """Context with a folder of its own below the system's folder of temporary files, which is removed at its end.

    >>> with scratch() as folder:
    ...     write_text(folder / "a.txt", "whole")
    >>> folder.exists()
    False
    """
    with tempfile.TemporaryDirectory(prefix="gradeclip-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def leftovers(folder: Path) -> list[Path]:
    """The temporary files and folders of processes that have ended, on this machine, in a folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(".gradeclip-")]
    except OSError:
        return []
    found = ((name, _NAME.fullmatch(name)) for name in sorted(names))
    return [folder / name for name, match in found if match and _has_ended(match[1], int(match[2]), match[3])]


def sweep(folder: Path) -> None:
    """Removes the temporary files and folders of processes that have ended, as far as that is possible.

    A folder in which a swap was begun is left to :mod:`captum_gradeclip.results`, which finishes it.
    """
    for one in leftovers(folder):
        if one.is_dir() and not one.is_symlink():
            if one.suffix != SWAP:
                shutil.rmtree(one, ignore_errors=True)
        else:
            with suppress(OSError):
                one.unlink(missing_ok=True)


SWAP = ".swap"
"""How the name of a temporary folder ends whose files are on their way to their places."""


def _has_ended(host: str, process: int, token: str) -> bool:
    if host != _HOST:
        return False  # on a disk that several machines share; only that machine knows
    if process == os.getpid():
        return token != _PROCESS
    if os.name == "nt":
        return False  # where os.kill ends a process, whatever the signal
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    # A process that was killed keeps its number until its parent has asked for its end, which some never do.
    with suppress(OSError):
        return Path("/proc", str(process), "stat").read_bytes().rpartition(b")")[2].split()[:1] == [b"Z"]
    return False


def _finite(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
