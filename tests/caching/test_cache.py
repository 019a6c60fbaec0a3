from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sfumato.caching.cache import FORMAT, Cache, _folders, _told, default_folder, digest
from sfumato.errors import SfumatoWarning

KEY = digest({"prompt": "a red circle"})
ARRAYS = {"pixels": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "latent": np.ones((4, 2, 2), np.float32)}


def entry(folder: Path) -> Path:
    return next(path for path in folder.rglob("*") if path.is_file())


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    Cache(tmp_path).put("generations", KEY, ARRAYS)
    found = Cache(tmp_path).get("generations", KEY)
    assert found is not None
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert Cache(tmp_path).get("scores", KEY) is None
    assert Cache(tmp_path).get("generations", digest({"prompt": "a red circle."})) is None


def test_a_key_does_not_depend_on_the_order_of_its_parts() -> None:
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize("cut", [0, 5, len(FORMAT) + 10, -1])
def test_a_truncated_entry_is_a_miss_said_once(tmp_path: Path, cut: int) -> None:
    Cache(tmp_path).put("generations", KEY, ARRAYS)
    path = entry(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    cache = Cache(tmp_path)
    with pytest.warns(SfumatoWarning, match="damaged or of another version"):
        assert cache.get("generations", KEY) is None
    assert cache.get("generations", KEY) is None  # a second warning would be an error
    cache.put("generations", KEY, ARRAYS)
    assert cache.get("generations", KEY) is not None


def test_a_changed_byte_and_another_version_are_misses(tmp_path: Path) -> None:
    Cache(tmp_path).put("generations", KEY, ARRAYS)
    path = entry(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for stored in (
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        whole.replace(b"-1\n", b"-9\n", 1),
    ):
        path.write_bytes(stored)
        _told.clear()  # it is said once in a process
        with pytest.warns(SfumatoWarning, match="another version"):
            assert Cache(tmp_path).get("generations", KEY) is None


def test_a_folder_that_cannot_be_used_is_said_once_and_costs_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = Cache(blocked / "inside")
    with pytest.warns(SfumatoWarning, match="SFUMATO_CACHE"):
        cache.put("generations", KEY, ARRAYS)
    cache.put("generations", KEY, ARRAYS)  # a second warning would be an error


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    cache.put("generations", KEY, ARRAYS)
    assert cache.get("generations", KEY) is None


def test_a_write_that_was_killed_leaves_nothing_that_reads_as_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(old: Path, new: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).put("generations", KEY, ARRAYS)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def put(cache: Cache, *numbers: int) -> None:
    for number in numbers:
        cache.put("generations", digest({"number": number}), ARRAYS)


def numbers(folder: Path) -> set[int]:
    """Which of the first entries are there."""
    return {number for number in range(40) if Cache(folder)._path("generations", digest({"number": number})).exists()}


def of_another_process(folder: Path, count: int) -> int:
    """Entries that another process has left, the first ones longest unused; the size of each."""
    put(Cache(folder), *range(count))
    for number in range(count):
        os.utime(Cache(folder)._path("generations", digest({"number": number})), (1000 + number, 1000 + number))
    _folders.clear()
    return entry(folder).stat().st_size


def test_entries_longest_unused_go_first(tmp_path: Path) -> None:
    size = of_another_process(tmp_path, 6)
    assert Cache(tmp_path).get("generations", digest({"number": 0})) is not None  # used again, so now the youngest
    _folders.clear()
    put(Cache(tmp_path, limit=5 * size), 7)
    assert numbers(tmp_path) == {0, 7}


@pytest.mark.parametrize(
    ("limit", "more", "left"), [(6, 0, 6), (4, 0, 2), (5, 0, 2), (6, -1, 2), (6, 1, 6), (4, -1, 1)]
)
def test_beyond_the_limit_half_of_it_is_left(tmp_path: Path, limit: int, more: int, left: int) -> None:
    size = of_another_process(tmp_path, 5)
    put(Cache(tmp_path, limit=limit * size + more), 5)  # six together
    assert numbers(tmp_path) == set(range(6 - left, 6))


def test_it_is_pruned_as_it_grows_but_nothing_that_this_process_has_used(tmp_path: Path) -> None:
    size = of_another_process(tmp_path, 4)
    cache = Cache(tmp_path, limit=6 * size)
    assert cache.get("generations", digest({"number": 1})) is not None
    put(cache, 10, 11)
    assert numbers(tmp_path) == {0, 1, 2, 3, 10, 11}
    put(Cache(tmp_path, limit=6 * size), 12)  # what a process knows, all of its caches know
    assert numbers(tmp_path) == {1, 10, 11, 12}
    put(cache, 13, 14, 15, 16, 17)
    assert numbers(tmp_path) == {1, *range(10, 18)}


def test_the_folder_is_looked_through_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    own = Path.glob

    def glob(self: Path, pattern: str) -> Iterator[Path]:
        looks.append(pattern)
        return own(self, pattern)

    size = of_another_process(tmp_path, 1)
    monkeypatch.setattr(Path, "glob", glob)
    cache = Cache(tmp_path, limit=16 * size)
    put(cache, *range(1, 16))
    assert len(looks) == 1
    put(cache, 16)
    assert len(looks) == 2
    put(cache, *range(17, 40))  # all in use, so nothing can be removed
    assert len(looks) < 2 + 24 / 2
    assert numbers(tmp_path) == set(range(1, 40))


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.setenv("SFUMATO_CACHE", "off")
    assert default_folder() is None
    monkeypatch.delenv("SFUMATO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "sfumato"


def test_reading_says_nothing_where_all_is_well(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = Cache(tmp_path / "new")
        cache.get("generations", KEY)
        cache.put("generations", KEY, ARRAYS)
        cache.get("generations", KEY)


def _many(folder: Path, start: int) -> int:
    """Write and read the same entries as another process does; how many were found."""
    cache = Cache(folder)
    keys = [digest({"number": (start + number) % 40}) for number in range(40)]
    for _ in range(5):
        for key in keys:
            cache.put("generations", key, ARRAYS)
            found = cache.get("generations", key)
            assert found is not None
            np.testing.assert_array_equal(found["pixels"], ARRAYS["pixels"])
    return len(keys)


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_many, [tmp_path, tmp_path], [0, 20])) == [40, 40]
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(names) == 40
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.parametrize("variable", ["SFUMATO_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_that_cannot_be_found_is_none_and_said_once(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _told.clear()
    monkeypatch.delenv("SFUMATO_CACHE", raising=False)
    monkeypatch.setenv(variable, "~nosuchuser")
    with pytest.warns(SfumatoWarning, match="there is no home folder for ~nosuchuser.*set SFUMATO_CACHE"):
        assert default_folder() is None
    assert default_folder() is None


def test_without_a_home_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _told.clear()
    for name in ("SFUMATO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what Python gives where there is none
    with pytest.warns(SfumatoWarning, match="there is no home folder for ~"):
        assert default_folder() is None
