"""Results of several files in a folder that may hold files of other people: replaced as a whole, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .files import SWAP, leftovers, sweep, temporary, to_json, write_json
from .quoting import quoted

if sys.platform != "win32":
    import fcntl

Sums = dict[str, str]
"""SHA-256 by name of a file."""


@dataclass(frozen=True)
class Results:
    r"""The files of one result, listed with their checksums by one of them, the manifest.

    A file belongs to the result if the manifest lists it and it is still as it was written. Only such files are replaced or
    removed, and only after all of the new result has been written, into a hidden folder beside them.

    Attributes:
        folder: where the files lie; it is made if it is not there.
        manifest: the name of the manifest, a JSON file, which holds further content.
        names: matches the names that the other files may have, whatever the manifest says.
        keep: files that are never replaced or removed, even if they belong to the result.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = Results(Path(folder), "about.json", re.compile(r"map-\d\.txt"))
    ...     for round in range(2):
    ...         with results.replacing({"round": round}) as part:
    ...             _ = (part / f"map-{round}.txt").write_text("a map")
    ...     sorted(one.name for one in Path(folder).iterdir())
    ['about.json', 'map-1.txt']
    """

    folder: Path
    manifest: str
    names: re.Pattern[str]
    keep: Sequence[Path] = ()

    def check(self, names: Iterable[str]) -> None:
        """Tells before the work that a file of somebody else lies where one of the result is to be written.

        Args:
            names: the names of the files that are to be written, beside that of the manifest.

        Raises:
            FileExistsError: naming the file.
        """
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise NotADirectoryError(f"folder: {quoted(self.folder)} is not a folder; move it away, or choose another one")
        known = self._known()
        for name in (self.manifest, *names):
            place = self.folder / name
            if not os.path.lexists(place):
                continue
            if self._is_kept(place):
                raise FileExistsError(
                    f"folder: {quoted(place)} is the picture itself, which the result would replace; choose another folder"
                )
            if not (known is not None if name == self.manifest else self._is_ours(name, known or {})):
                raise FileExistsError(
                    f"folder: {quoted(place)} is not of an earlier result, or has been changed since, and is not replaced;"
                    " move it away, or choose another folder"
                )

    @contextmanager
    def replacing(self, content: Mapping[str, object]) -> Iterator[Path]:
        """Context that gives an empty folder for the files of a new result, which at the end take the place of the old one.

        On any exception, an interrupt included, all files are as they were before. If the process is killed while the files
        take their places, the next call finishes that.

        Args:
            content: what the manifest holds beside the list of the files.

        Raises:
            FileExistsError: if a file of somebody else is in the way, see :meth:`check`.
            OSError: if a file cannot be written.
        """
        made = _make(self.folder)
        part = temporary(self.folder)
        try:
            with _alone(self.folder):
                self._finish()
            sweep(self.folder)
            new = part / "new"
            new.mkdir(parents=True)
            (part / "old").mkdir()
            yield new
            sums = {one.name: _checksum(one) for one in sorted(new.iterdir())}
            told = {**content, "files": sums}
            write_json(new / self.manifest, {**told, "checksum": _own_checksum(told)})
            with _alone(self.folder):
                self.check(sums)
                self._swap(part, sums)
        except BaseException as error:
            shutil.rmtree(part, ignore_errors=True)
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            if isinstance(error, OSError) and str(error.filename).startswith(str(part)):
                # The place that the file was on its way to says more than the hidden one.
                place = str(self.folder / Path(str(error.filename)).name.removeprefix(part.name))
                raise type(error)(error.errno, error.strerror, place) from None
            raise

    def _swap(self, part: Path, sums: Sums) -> None:
        """Moves a whole new result into its place, or nothing of it."""
        known = self._known() or {}
        swap = part.with_name(part.name + SWAP)
        write_json(part / "swap.json", {"manifest": self.manifest, "files": sums, "known": known})
        try:
            os.rename(part, swap)
            self._move(swap, sums, known)
        except BaseException:
            # Where that fails as well, the folder keeps what has not come to its place, and the next run finishes the swap.
            if swap.exists():
                self._take_back(swap, sums)
                shutil.rmtree(swap, ignore_errors=True)
            raise
        shutil.rmtree(swap, ignore_errors=True)

    def _move(self, swap: Path, sums: Sums, known: Sums) -> None:
        new, old = swap / "new", swap / "old"
        for name in known.keys() - sums.keys():
            if self._is_ours(name, known) and not self._is_kept(self.folder / name):
                os.replace(self.folder / name, old / name)
        for name in (*sums, self.manifest):  # what lists the files comes after them
            if not (new / name).exists():
                continue
            place = self.folder / name
            if os.path.lexists(place):
                _link(place, old / name)
            os.replace(new / name, place)

    def _take_back(self, swap: Path, sums: Sums) -> None:
        new, old = swap / "new", swap / "old"
        for name in (*sums, self.manifest):
            if not (new / name).exists() and not (old / name).exists():
                (self.folder / name).unlink(missing_ok=True)
        for one in list(old.iterdir()):
            if os.name == "nt":
                (self.folder / one.name).unlink(missing_ok=True)
            os.rename(one, self.folder / one.name)

    def _finish(self) -> None:
        """Finishes the swaps of this result that were begun by processes which have been killed since."""
        for swap in leftovers(self.folder):
            if swap.suffix != SWAP or swap.is_symlink():
                continue
            journal = _read(swap / "swap.json")
            if journal.get("manifest") != self.manifest:
                continue
            sums, known = self._listed(journal.get("files")), self._listed(journal.get("known"))
            new = swap / "new"
            for name in sums:
                place = self.folder / name
                if os.path.lexists(place) and not self._is_ours(name, known) and not self._is_ours(name, sums):
                    (new / name).unlink(missing_ok=True)  # somebody has put a file there in the meantime
            self._move(swap, sums, known)
            shutil.rmtree(swap, ignore_errors=True)

    def content(self) -> dict[str, object] | None:
        """What the manifest of an earlier result holds; ``None`` if there is none, or it is not as it was written."""
        told = _read(self.folder / self.manifest)
        own = told.pop("checksum", None)
        return told if "files" in told and own == _own_checksum(told) else None

    def is_whole(self) -> bool:
        """Whether an earlier result lies in the folder with all of its files as they were written."""
        known = self._known()
        return known is not None and all(self._is_ours(name, known) for name in known)

    def _known(self) -> Sums | None:
        """The files that belong to the result, as its manifest lists them; ``None`` if there is no manifest of ours."""
        told = self.content()
        return None if told is None else self._listed(told["files"])

    def _listed(self, files: object) -> Sums:
        found = files.items() if isinstance(files, dict) else ()
        return {name: str(checksum) for name, checksum in found if self.names.fullmatch(name)}

    def _is_ours(self, name: str, known: Sums) -> bool:
        place = self.folder / name
        return name in known and place.is_file() and not place.is_symlink() and _checksum(place) == known[name]

    def _is_kept(self, place: Path) -> bool:
        for one in self.keep:
            with suppress(OSError):
                if os.path.samefile(one, place):
                    return True
        return False


def _make(folder: Path) -> list[Path]:
    """Makes a folder; returns those that were not there, the innermost first."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Context in which no other process or thread is, of those that ask for the same folder, as far as the system can."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _link(place: Path, copy: Path) -> None:
    """Gives a file a second name, under which it stays when its place is taken; where that cannot be, moves it there."""
    copy.unlink(missing_ok=True)
    try:
        os.link(place, copy)
    except OSError:
        os.replace(place, copy)


def _read(file: Path) -> dict[str, object]:
    """The content of a JSON file; nothing where there is no file, or no object in it."""
    try:
        if file.is_symlink() or not file.is_file():
            return {}
        content: object = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _checksum(file: Path) -> str:
    digest = sha256()
    with open(file, "rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _own_checksum(content: Mapping[str, object]) -> str:
    """The checksum of a manifest, which holds whatever its lines look like."""
    return sha256(to_json(content).encode()).hexdigest()
