"""Locks on files that the operating system releases with their owner, however it ends.

A process number says nothing in another container, and a host name nothing on a shared disk. A lock of the kernel
(flock) ends with the last process that holds the file open. Where the file system has none, an owner is taken to live
for ever: then nothing of it is ever cleared away.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

LOOK = 0.2
"""Seconds that `alone` waits for a lock, since `is_held` has it for a moment."""


def own(path: Path) -> int | None:
    """Make a lock file, or take one that is there, and hold it until the descriptor is closed.

    Returns:
        The descriptor, open for reading and writing; None if another holds the file or has just removed it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    return _kept(descriptor, path, _locked(descriptor) is not False)


def seize(path: Path) -> int | None:
    """Hold the lock of a file whose owner is gone; None if it lives, or where that cannot be seen.

    Raises:
        OSError: The file cannot be opened.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    return _kept(descriptor, path, _locked(descriptor) is True)


def is_of(descriptor: int, path: Path) -> bool:
    """Whether a name still is that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock file, or where that cannot be seen, whether there is one.

    Looking shares the lock for a moment: others who look do not mind, and `alone` waits for longer than that.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return False
    try:
        return _locked(descriptor, shared=True) is not True
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs; gives whether it could be had. The file goes with the block."""
    end = time.monotonic() + LOOK
    while (descriptor := own(path)) is None and time.monotonic() < end:
        time.sleep(LOOK / 20)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: who waits for it sees that its name is gone
        os.close(descriptor)


def _kept(descriptor: int, path: Path, held: bool) -> int | None:
    if held and is_of(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _locked(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file at once: whether it worked, None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
