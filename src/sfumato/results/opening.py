"""Opening a stored explanation."""

from __future__ import annotations

from os import PathLike

from sfumato.results import store
from sfumato.results.explanation import Explanation


def open(path: str | PathLike[str], *, verify: bool = False) -> Explanation:
    """Open a stored explanation; arrays are read when they are used.

    Args:
        path: The zarr folder, or the folder that a run of ``sfumato explain`` wrote.
        verify: Read every byte and compare it with what was written.

    Raises:
        StoreError: Nothing is there, it is no explanation, it is incomplete or damaged, or a newer Sfumato wrote it.
    """
    return Explanation(*store.load(path, verify=verify))
