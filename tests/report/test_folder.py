"""The folder of a result, written from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato.errors import StoreError
from sfumato.report import write_result
from tests.results.synthetic import explanation


def test_the_folder_of_a_result_has_its_pictures_numbers_arrays_and_page(tmp_path: Path) -> None:
    made = explanation()
    write_result(made, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "summary.json", "numbers.csv", "explanation.zarr", "words"} <= names
    several = {f"image-seed-{seed}.png" for seed in made.request.seeds}
    assert (several if made.request.images > 1 else {"image.png"}) <= names
    opened = sfumato.open(tmp_path / "out" / "explanation.zarr", verify=True)
    np.testing.assert_array_equal(opened.tree["image"]["pixels"], made.tree["image"]["pixels"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary == json.loads(json.dumps(made.summary()))


def test_an_earlier_result_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    made = explanation()
    for _ in range(2):
        write_result(made, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError):
        write_result(made, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
