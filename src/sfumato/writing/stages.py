"""Hidden folders next to a target, in which a writer works, and what becomes of those that a killed writer left.

A box, ``.sfumato-<random>``, is a folder of one writer: ``lock`` is held by it (`sfumato.writing.locks`), ``new`` has
what is being written, ``old`` what was moved out of the way, and what lies in ``gone`` is only waiting to be removed.
Both ``new`` and ``old`` have the target's own name below them. ``swap.json`` says before the names are exchanged what
was in the two folders, so that the next sweep can separate the writer's own files from those that a person put there
meanwhile. Single files have no box: the file itself, ``.sfumato-<random>.part``, is the lock.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import StoreError
from sfumato.writing.locks import own, seize
from sfumato.writing.records import Snapshot, check_record, snapshot

_NAME = ".sfumato-{}"
_BOX, _PART = re.compile(r"\.sfumato-[0-9a-f]{16}"), re.compile(r"\.sfumato-[0-9a-f]{16}\.part")
_LOCK, _NEW, _OLD, _GONE, _SWAP = "lock", "new", "old", "gone", "swap.json"


@dataclass(frozen=True)
class Box:
    """A folder of one writer, in which it has two places for the folder that it makes.

    Attributes:
        place: The box itself.
        target: What is made, or removed.
    """

    place: Path
    target: Path

    @property
    def new(self) -> Path:
        """Where it is written."""
        return self.place / _NEW / self.target.name

    @property
    def old(self) -> Path:
        """Where what it replaces may be moved."""
        return self.place / _OLD / self.target.name

    def announce(self, old: Snapshot) -> None:
        """Say what is in the folder that is replaced, and in the new one, before the names are exchanged."""
        text = json.dumps({"old": old, "new": snapshot(self.new) if self.new.exists() else {}})
        (self.place / _SWAP).write_text(text, encoding="utf-8")

    def drop(self, folder: Path) -> None:
        """Mark a folder of the box as one that may go; it is removed with the box, by whoever comes first."""
        os.rename(folder, self.place / _GONE / secrets.token_hex(8))


@contextmanager
def boxed(target: Path) -> Iterator[Box]:
    """Make a box next to a target, and remove it with everything that is left in it."""
    sweep(target.parent)
    place, lock = _opened(target.parent)
    spare = None
    try:
        for name in (_NEW, _OLD, _GONE):
            (place / name).mkdir()
        spare = os.open(os.devnull, os.O_RDONLY)
        yield Box(place, target)
    finally:
        if spare is not None:
            os.close(spare)  # to remove takes one open file, which may be one more than the system gives
        _settle(place)
        os.close(lock)


def new_file(folder: Path) -> tuple[Path, int]:
    """Make a hidden file of one writer; returns its path and a descriptor, which is the lock."""
    for _ in range(100):
        path = folder / f"{_NAME.format(secrets.token_hex(8))}.part"
        descriptor = own(path)
        if descriptor is not None:
            return path, descriptor
    raise OSError(errno.EBUSY, "another program takes away each new file")


def sweep(parent: Path) -> None:
    """Remove what killed writers left in a folder; what they had only moved aside goes back to its name."""
    try:
        with os.scandir(parent) as found:
            names = [entry.name for entry in found]
    except OSError:
        return
    for name in names:
        with suppress(OSError):  # another sweeper was faster, or it is not ours to remove
            if _PART.fullmatch(name):
                _sweep_file(parent / name)
            elif _BOX.fullmatch(name):
                _sweep_box(parent / name)


def free_name(target: Path) -> Path:
    """The first name like that of a target, with a number, that nothing has yet."""
    number = 2
    while os.path.lexists(numbered(target, number)):
        number += 1
    return numbered(target, number)


def numbered(target: Path, number: int) -> Path:
    """The name of a target with a number from 2; number 1 is the target itself."""
    return target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")


def _opened(parent: Path) -> tuple[Path, int]:
    for _ in range(100):
        place = parent / _NAME.format(secrets.token_hex(8))
        place.mkdir()
        try:
            lock = own(place / _LOCK)
        except FileNotFoundError:  # a sweeper took it for the empty box of a killed writer
            continue
        except OSError:
            place.rmdir()
            raise
        if lock is not None:
            return place, lock
    raise OSError(errno.EBUSY, "another program takes away each new folder")


def _sweep_file(path: Path) -> None:
    descriptor = seize(path)
    if descriptor is not None:
        path.unlink()
        os.close(descriptor)


def _sweep_box(place: Path) -> None:
    with suppress(OSError):
        place.rmdir()  # its owner was killed at once; one that lives makes another
        return
    lock = seize(place / _LOCK)
    if lock is not None:
        try:
            _settle(place)
        finally:
            os.close(lock)


def _settle(place: Path) -> None:
    """Put back what was moved aside, keep what a person had put there, and remove the rest with the box."""
    with suppress(OSError):
        for old in _inside(place / _OLD):
            if not os.path.lexists(place.parent / old.name):
                os.rename(old, place.parent / old.name)
    with suppress(OSError):
        said = _announced(place)
        for left in [*_inside(place / _OLD), *_inside(place / _NEW)]:
            if said and snapshot(left) not in said and not _is_whole(left):
                os.rename(left, free_name(place.parent / left.name))
            else:
                os.rename(left, place / _GONE / secrets.token_hex(8))
        (place / _SWAP).unlink(missing_ok=True)
        for left in _inside(place / _GONE):
            _remove(left)
        for name in (_NEW, _OLD, _GONE):
            with suppress(FileNotFoundError):
                (place / name).rmdir()
        (place / _LOCK).unlink()
        place.rmdir()


def _inside(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [folder / entry.name for entry in found]
    except FileNotFoundError:
        return []


def _announced(place: Path) -> list[Snapshot]:
    """What was in the folders that the box's writer was about to exchange; nothing if it had not come so far."""
    try:
        said = json.loads((place / _SWAP).read_text(encoding="utf-8"))
        return [said["old"], said["new"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _is_whole(left: Path) -> bool:
    """Whether a folder is a result as some other writer finished it, which may be replaced like any other."""
    try:
        check_record(left, left.name)
    except StoreError:
        return False
    return True


def _remove(folder: Path) -> None:
    """Remove a folder with one open file at a time; what cannot be removed stays, and no link is followed."""
    if folder.is_symlink():
        folder.unlink()
        return
    folders = [str(folder)]
    for one in folders:  # grows on the way
        with os.scandir(one) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)
    for one in reversed(folders):
        with suppress(OSError):
            os.rmdir(one)
