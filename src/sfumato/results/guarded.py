"""Arrays on the disk that are read when they are used, with one kind of error for all damage that shows only then."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from sfumato.errors import StoreError


def damaged(named: str, why: str) -> StoreError:
    """The error of a stored explanation that cannot be read."""
    return StoreError(f"{named} is incomplete or damaged: {why}; make it again")


def guarded(dataset: xr.Dataset, named: str) -> xr.Dataset:
    """A dataset whose arrays raise ``StoreError`` where they cannot be decoded; they are still read when they are used.

    Args:
        dataset: As xarray opens it.
        named: How messages call the result that it belongs to.
    """
    arrays = {name: _lazy(array.variable, f"{named}: {name}") for name, array in dataset.data_vars.items()}
    return dataset.assign(arrays)


def _lazy(variable: xr.Variable, named: str) -> xr.Variable:
    held: Any = indexing.LazilyIndexedArray(_Guarded(variable, named))
    once: Any = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(held))  # type: ignore[no-untyped-call]
    return xr.Variable(variable.dims, once, variable.attrs)


class _Guarded(BackendArray):
    """The values of a variable, as a backend of xarray gives them."""

    def __init__(self, variable: xr.Variable, named: str) -> None:
        self._variable, self._named = variable, named
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        try:
            return np.asarray(self._variable[key].values)
        except Exception as error:  # as many kinds as there are codecs
            raise damaged(self._named, " ".join(f"{type(error).__name__}: {error}".split())[:300]) from error
