"""``sfumato.json`` and ``regions.png``: what a model's folder says, checked entry by entry."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import ModelError
from sfumato.models.notes import Notes, read_notes, regions_of


def noted(folder: Path, content: Any) -> Path:
    (folder / "sfumato.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_notes_of_a_folder(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == Notes()
    given = {"defaults": {"steps": 5, "guidance": 2}, "words": ["a"], "attributes": ["hat"], "regions": ["sky", "sea"]}
    assert read_notes(noted(tmp_path, given)) == Notes(5, 2.0, ("a",), ("hat",), ("sky", "sea"))
    assert read_notes(noted(tmp_path, {"another program's": 1})) == Notes()
    given = {"defaults": {"size": 128}, "arguments": {"true_cfg_scale": 2.0}}
    assert read_notes(noted(tmp_path, given)) == Notes(size=128, arguments={"true_cfg_scale": 2.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "nested more than"),
        ([], r"it holds \[\]; expected entries by name"),
        ({"defaults": 3}, "defaults is 3; expected steps, guidance and size by name"),
        ({"defaults": {"size": 7}}, "size is 7; expected a whole number from 8 to 8192"),
        ({"arguments": ["true_cfg_scale"]}, "expected arguments of the pipeline's call by name"),
        ({"defaults": {"steps": "many"}}, "steps is 'many'; expected a whole number from 1 to 1000"),
        ({"defaults": {"steps": 10**30}}, "steps is 1000"),
        ({"defaults": {"guidance": "strong"}}, "guidance is 'strong'; expected a finite number, 0 or more"),
        ('{"defaults": {"guidance": NaN}}', "guidance is nan"),
        ({"words": "red"}, "words is 'red'; expected a list of names"),
        ({"words": [3]}, "a name in words is int; expected text"),
        ({"attributes": ["a"] * 65}, "attributes has 65 names; at most 64"),
        ({"regions": {"sky": 1}}, "regions is .*; expected a list of names"),
        ({"regions": ["a\0"]}, "a name in regions contains a NUL"),
    ],
)
def test_odd_notes_are_one_clear_error(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_notes(noted(tmp_path, content))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.timeout(20)
def test_regions_are_read_as_every_image_is(tmp_path: Path) -> None:
    noted(tmp_path, {"regions": ["sky", "sea"]})
    pipeline: Any = SimpleNamespace(config={"_name_or_path": str(tmp_path)})
    owner = np.zeros((8, 9), np.uint8)
    owner[4:] = 1
    Image.fromarray(owner).save(tmp_path / "regions.png")
    np.testing.assert_array_equal(regions_of(pipeline)["sea"], owner == 1)
    Image.fromarray(owner).save(tmp_path / "regions.png", format="GIF")
    with pytest.raises(ModelError, match="is no PNG, JPEG or WebP image"):
        regions_of(pipeline)
    (tmp_path / "regions.png").unlink()
    os.mkfifo(tmp_path / "regions.png")
    with pytest.raises(ModelError, match="it is no regular file"):
        regions_of(pipeline)
