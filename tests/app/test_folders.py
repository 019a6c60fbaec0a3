"""What the folder of the page holds is found without links and hidden folders, and named by an id that is no path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from sfumato.app.server.folders import MOST, id_of, newest, subfolders, with_id
from sfumato.app.server.library import saved_in
from sfumato.app.server.visitors import Gone


@dataclass(frozen=True)
class Made:
    id: str
    when: float


def test_folders_by_name_without_links_files_and_hidden_ones(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert subfolders(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert subfolders(tmp_path / "nothing") == subfolders(tmp_path / "file") == []


def test_the_last_written_come_first_and_no_more_than_a_list_holds() -> None:
    found = newest([Made(str(when), when) for when in range(MOST + 5)])
    assert [one.when for one in found] == [*range(MOST + 4, 4, -1)]


def test_an_id_is_the_same_for_the_same_place_and_says_nothing_of_it() -> None:
    assert id_of("cats/one") == id_of("cats/one") != id_of("cats/two")
    assert len(id_of("cats/one")) == 16
    assert "cat" not in id_of("cats/one")


def test_what_is_not_in_the_list_is_gone() -> None:
    made = Made("one", 1.0)
    assert with_id([made], "one", "run") is made
    with pytest.raises(Gone, match="this run is no longer in the folder; refresh the list"):
        with_id([made], "two", "run")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_folder_whose_name_is_no_text_is_listed_like_others(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.zarr"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    (folder / "zarr.json").write_text("{}")
    (one,) = saved_in(tmp_path)
    assert one.path == folder
