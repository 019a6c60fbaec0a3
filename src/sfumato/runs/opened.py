"""A run that is read: its settings, table, maps, images and finding, each loaded when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.bounds import shown_path
from sfumato.errors import RunError
from sfumato.reading import path_of, read_json
from sfumato.runs.concluding import MAP, TABLE, StoredRecords
from sfumato.runs.manifest import Counts, Manifest
from sfumato.runs.own import LOCK, MAPS, PICTURES
from sfumato.runs.task import Item, Record
from sfumato.writing.locks import is_held

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """The folder of a run.

    Args:
        folder: Of the run.

    Raises:
        RunError: It holds none.

    Example:
        >>> import sfumato
        >>> run = sfumato.open_run("runs/first")  # doctest: +SKIP
        >>> run.items.groupby("word")["daam.coverage"].mean()  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: tuple[tuple[int, ...], pd.DataFrame] | None = None
        with Manifest(folder) as manifest:
            self.settings: dict[str, Any] = manifest.settings

    @property
    def counts(self) -> Counts:
        """How many rows of the input are in which state, now."""
        with Manifest(self.folder) as manifest:
            return manifest.counts

    @property
    def finding(self) -> dict[str, Any]:
        """Verdict, sentence and table, as ``finding.json`` has them.

        Raises:
            RunError: Nothing was concluded yet.
        """
        found: dict[str, Any] = read_json(self._there("finding.json"))
        return found

    @property
    def items(self) -> pd.DataFrame:
        """A row for each word of each image (or each item), with the user's columns and all numbers."""
        return self._table.copy()

    @property
    def _table(self) -> pd.DataFrame:
        """The table, read again only where its file is another one, as after more of the run."""
        import pandas as pd

        path = self._there(TABLE)
        found = path.stat()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, pd.read_parquet(path)
        return self._read[1]

    @property
    def maps(self) -> dict[str, xr.DataArray]:
        """The maps (row, y, x) by name and size, such as ``daam/16x16``, read from the disk as they are used.

        The column of the same name in `items` has the place of each row's map. Maps that were kept small hold levels;
        the columns ``NAME.offset`` and ``NAME.scale`` turn them into values (`map_of` does so).
        """
        path = self.folder / MAPS
        names = sorted(one.parent.parent.relative_to(path).as_posix() for one in path.rglob(f"{MAP}/zarr.json"))
        return {name: xr.open_zarr(str(path / name), consolidated=False)[MAP] for name in names}

    def map_of(self, row: int, name: str) -> NDArray[np.float32]:
        """The map (y, x) of a row of `items`, in values.

        Args:
            row: Its place in the table.
            name: Of the maps, such as "daam".

        Raises:
            RunError: The row has no such map.
        """
        one = self._table.iloc[row]
        for path, found in self.maps.items():
            if path.startswith(f"{name}/") and one[path] == one[path]:  # NaN: of another size, or without a map
                values = np.asarray(found[int(one[path])].values)
                if values.dtype != np.uint8:
                    return values.astype(np.float32)
                return np.asarray(one[f"{name}.offset"] + one[f"{name}.scale"] * values, np.float32)
        raise RunError(f"row {row} has no map {name!r}; there are: {', '.join(self.maps) or 'none'}")

    def image_of(self, item: int) -> Path:
        """The file of an item's image."""
        return self._there(f"{PICTURES}/{item:07d}.png")

    def records(self) -> Iterator[tuple[Item, Record]]:
        """Every item that was measured with its record, in the order of the plan."""
        with Manifest(self.folder) as manifest:
            yield from StoredRecords(manifest)

    def _there(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise RunError(
                f"the run in {shown_path(self.folder)} has no {name}; it is written when a run ends, or by: "
                "sfumato run table"
            )
        return path


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Open the folder of a run for reading, also while it runs.

    Raises:
        RunError: It holds no run.
    """
    return Run(path_of(folder))


def is_driven(folder: Path) -> bool:
    """Whether a process works on the run of a folder now; looking keeps nobody from beginning to."""
    return is_held(folder / LOCK)
