"""What in the folder of a run is the run's own, so that nothing else is ever removed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sfumato.writing.reasons import remove_empty

SHARDS, INPUTS, PICTURES, MAPS, STAGE = "shards", "inputs", "images", "arrays.zarr", "concluding"
"""The folders of all shards, of the pictures that requests are given, of what was generated, of all maps, and of what
is being concluded."""
LOCK, TOKEN = ".lock", ".ray-driver"
"""The file that the process holds which drives the run, and the one by which workers of a cluster see that they share
the folder."""
WHOLE = frozenset({MAPS, STAGE})
"""Folders whose every file is the run's own."""
OWN_NAMES = {
    SHARDS: re.compile(r"\d{5,}(-\d+)?\.npz"),
    INPUTS: re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\.png"),
    PICTURES: re.compile(r"\d{7,}\.png"),
}
"""The run's own files of the folders in which a person may have put something."""


def remove_own(folder: Path, name: str) -> None:
    """Remove a file or a folder of a run; what a person has put into the folder stays."""
    path = folder / name
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if name in WHOLE:
        shutil.rmtree(path)
        return
    for inside, _, names in os.walk(path, topdown=False):
        for one in (Path(inside) / found for found in names):
            if OWN_NAMES[name].fullmatch(one.relative_to(path).as_posix()):
                one.unlink()
        remove_empty([Path(inside)])
