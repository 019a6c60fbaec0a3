from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato.errors import StoreError
from sfumato.results import store
from sfumato.results.explanation import Explanation
from sfumato.results.schema import SchemaError
from tests.results import synthetic


@pytest.mark.parametrize("images", [1, 2])
def test_what_was_saved_opens_again(tmp_path: Path, images: int) -> None:
    extra = xr.Dataset(
        {
            "shap": (("word", "run"), np.random.default_rng(0).normal(size=(3, 2)), {"unit": "similarity"}),
            "valid": ("word", [True, False, True]),
            "when": ("word", np.array(["2026-11-21"] * 3, dtype="M8[ns]")),
        },
        coords={"word": ["😀", "שלום", ""]},
        attrs={"calls": 12, "nested": {"a": [1, None]}},
    )
    made = synthetic.explanation(images=images, unseen=1, more={"word_importance": extra, "deep/inner": extra})
    made.save(tmp_path / "a.zarr")
    again = sfumato.open(tmp_path / "a.zarr", verify=True)
    xr.testing.assert_identical(again.tree.load(), made.tree)
    assert again.request == made.request
    assert again.provenance == made.provenance
    for name in ("words", "word_importance"):
        for key, variable in made.tree[name].to_dataset().variables.items():
            assert again.tree[name][key].dtype == variable.dtype, key


def test_an_opened_explanation_saves_again(stored: Path, tmp_path: Path) -> None:
    sfumato.open(stored).save(tmp_path / "b.zarr")
    sfumato.open(stored).save(stored, overwrite=True)
    xr.testing.assert_identical(
        sfumato.open(tmp_path / "b.zarr").tree.load(), sfumato.open(stored, verify=True).tree.load()
    )


def test_the_same_result_is_stored_as_the_same_bytes(made: Explanation, tmp_path: Path) -> None:
    for name in ("a.zarr", "b.zarr"):
        made.save(tmp_path / name)
    contents = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a.zarr", "b.zarr")
    ]
    assert contents[0] == contents[1]


def test_arrays_are_read_when_they_are_used(stored: Path) -> None:
    opened = sfumato.open(stored)
    (stored / "words" / "map" / "c" / "0" / "0" / "0").unlink()
    assert opened.image.size == (128, 128)  # the words' maps were not needed for it
    with pytest.raises(StoreError, match="words/map has 1 of 2 files"):
        sfumato.open(stored)


def test_loading_makes_it_independent_of_the_folder(made: Explanation, stored: Path) -> None:
    opened = sfumato.open(stored).load()
    shutil.rmtree(stored)
    np.testing.assert_array_equal(opened.word_map("circle").values, made.word_map("circle").values)


def test_any_xarray_opens_the_folder_without_warnings(stored: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(stored, engine="zarr")
    assert tree["words"]["map"].shape == (8, 16, 16)
    assert tree.attrs["format"] == "sfumato-explanation"
    assert tree.attrs["request"]["prompt"] == synthetic.PROMPT


def test_the_folder_around_it_opens_too(made: Explanation, tmp_path: Path) -> None:
    made.save(tmp_path / "out" / "explanation.zarr")
    assert sfumato.open(tmp_path / "out").request == made.request
    assert sfumato.open(str(tmp_path / "out")).request == made.request


def test_an_existing_result_is_kept_unless_told(made: Explanation, stored: Path) -> None:
    with pytest.raises(StoreError, match="there already; choose another name or pass overwrite=True"):
        made.save(stored)
    other = synthetic.explanation("blue square")
    other.save(stored, overwrite=True)
    assert sfumato.open(stored, verify=True).request.prompt == "blue square"
    assert [p.name for p in stored.parent.iterdir()] == [stored.name]


@pytest.mark.parametrize("kind", ["file", "folder", "other zarr"])
def test_only_explanations_are_ever_replaced(made: Explanation, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "precious"
    if kind == "file":
        target.write_text("letter")
    elif kind == "folder":
        target.mkdir()
        (target / "letter.txt").write_text("letter")
    else:
        xr.Dataset({"a": ("k", [1, 2])}).to_zarr(target, zarr_format=3, consolidated=False)
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="no stored explanation, so it is not replaced|is a file; give the name"):
        made.save(target, overwrite=True)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_an_empty_folder_is_used(made: Explanation, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    made.save(tmp_path / "new")
    assert sfumato.open(tmp_path / "new").request == made.request


def test_a_link_is_kept_and_what_it_names_is_replaced(made: Explanation, stored: Path) -> None:
    link = stored.parent / "link.zarr"
    link.symlink_to(stored, target_is_directory=True)
    synthetic.explanation("blue square").save(link, overwrite=True)
    assert link.is_symlink()
    assert sfumato.open(stored).request.prompt == "blue square"


def test_broken_maps_are_never_stored(made: Explanation, tmp_path: Path) -> None:
    made.tree["words"]["map"].values[1, 0, 0] = np.nan
    with pytest.raises(SchemaError, match="'red' holds NaN"):
        made.save(tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "zarr.json").write_text('{"attributes": {"form')
    xr.Dataset({"a": ("k", [1, 2])}).to_zarr(tmp_path / "other", zarr_format=3, consolidated=False)
    for name, message in {
        "missing": "does not exist",
        "file": "is a file",
        "folder": "not an explanation: it holds no zarr.json",
        "broken": "incomplete or damaged: zarr.json cannot be read",
        "other": "another program wrote this zarr store",
        "nul\0": "no usable path: .*null",
        " ": "name of the folder is empty",
    }.items():
        with pytest.raises(StoreError, match=message):
            sfumato.open(f"{tmp_path}/{name}" if name.strip() else name)


def rewrite(stored: Path, seal: bool = True, **changes: Any) -> None:
    """Change root attributes as a newer program (or a careless hand) would."""
    content = json.loads((stored / "zarr.json").read_text())
    attrs = content["attributes"] | changes
    if seal:
        del attrs["seal"]
        attrs["seal"] = store._seal(attrs)
    content["attributes"] = attrs
    (stored / "zarr.json").write_text(json.dumps(content))


def test_a_newer_format_asks_for_a_newer_program(stored: Path) -> None:
    rewrite(stored, version=store.VERSION + 1, sfumato="9.0")
    with pytest.raises(StoreError, match=r"has format 2, written by Sfumato 9\.0; .* reads up to format 1: install"):
        sfumato.open(stored)


def test_changed_attributes_break_the_seal(stored: Path) -> None:
    rewrite(stored, seal=False, provenance={"model": "a better one"})
    with pytest.raises(StoreError, match=r"attributes in zarr\.json were changed"):
        sfumato.open(stored)


def test_a_request_that_cannot_be_is_refused(stored: Path) -> None:
    rewrite(stored, request={"prompt": "a", "steps": -1})
    with pytest.raises(StoreError, match="no valid explanation: steps is -1"):
        sfumato.open(stored)


def files_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_every_missing_or_shortened_file_is_noticed_at_once(stored: Path) -> None:
    for path in files_below(stored):
        content = path.read_bytes()
        for damage in ("missing", "shortened"):
            if damage == "missing":
                path.unlink()
            else:
                path.write_bytes(content[: len(content) // 2])
            with pytest.raises(StoreError, match="incomplete or damaged|no zarr.json"):
                sfumato.open(stored)
            path.write_bytes(content)
    sfumato.open(stored, verify=True)


def test_every_changed_byte_is_noticed_when_verifying(stored: Path) -> None:
    for path in files_below(stored):
        if path == stored / "zarr.json":
            continue
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 0xFF]) + content[1:])
        name = path.relative_to(stored).as_posix().split("/c/")[0].removesuffix("/zarr.json")
        with pytest.raises(StoreError, match=f"{name} differs from what was written"):
            sfumato.open(stored, verify=True)
        path.write_bytes(content)


def test_files_of_the_desktop_do_no_harm(stored: Path) -> None:
    (stored / "words" / ".DS_Store").write_text("x")
    assert sfumato.open(stored, verify=True).request.prompt == synthetic.PROMPT
    (stored / "words" / "notes.txt").write_text("x")
    with pytest.raises(StoreError, match="words has 2 of 1 files"):
        sfumato.open(stored)


def test_saving_leaves_the_working_folder_alone(
    made: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made.save("relative.zarr")
    assert sorted(os.listdir(tmp_path)) == ["relative.zarr"]


def test_a_name_that_is_too_long_is_said_in_one_line() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        sfumato.open("a" * 5000)


@pytest.mark.parametrize("name", ["notes.txt", "words/map/notes.txt", "words/map/c/9", "mine/"])
def test_files_of_other_origin_in_a_stored_result_are_never_lost(stored: Path, name: str) -> None:
    if name.endswith("/"):
        (stored / name).mkdir()
        (stored / name / "thesis.tex").write_text("mine")
    else:
        (stored / name).write_text("mine")
    before = sorted(stored.parent.rglob("*"))
    with pytest.raises(StoreError, match="is not as Sfumato wrote it, so it is not replaced; move it away"):
        synthetic.explanation("blue square").save(stored, overwrite=True)
    assert sorted(stored.parent.rglob("*")) == before


def test_a_changed_file_in_a_stored_result_is_never_lost(stored: Path) -> None:
    path = stored / "words" / "map" / "zarr.json"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(StoreError, match="words/map differs from what was written"):
        synthetic.explanation("blue square").save(stored, overwrite=True)


@pytest.mark.parametrize("linked", ["words/map/c", "words/map/c/0/0/0", "zarr.json"])
def test_links_in_a_stored_result_are_not_followed(stored: Path, tmp_path: Path, linked: str) -> None:
    (stored / linked).rename(tmp_path / "elsewhere")
    (stored / linked).symlink_to(tmp_path / "elsewhere")
    for action in (sfumato.open, lambda path: synthetic.explanation("blue").save(path, overwrite=True)):
        with pytest.raises(StoreError, match=f"{linked} is no regular file"):
            action(stored)
    assert (tmp_path / "elsewhere").exists()


FEW = """
import os, resource, sys
from pathlib import Path
from sfumato.errors import StoreError
from tests.results import synthetic

made, place = synthetic.explanation("red", size=(16, 16), tokens=False), Path(sys.argv[1])
made.save(place / "old.zarr")
before = sorted(path.name for path in (place / "old.zarr").rglob("*"))
ways = {"saved": 0, "refused": 0}
for more in (0, 3, 6, 9, 24):
    free = os.dup(0)
    os.close(free)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limit[1]))
    try:
        made.save(place / "deep" / f"{more}.zarr")
        ways["saved"] += 1
    except StoreError as error:
        assert "too many files are open" in str(error), error
        ways["refused"] += 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
assert all(ways.values()), ways
left = [path for path in place.rglob(".sfumato-*")]
assert not left, left
assert len(list(place.rglob("*.zarr"))) == 1 + ways["saved"]
"""


@pytest.mark.skipif(os.name != "posix", reason="limits are of POSIX")
def test_with_few_open_files_it_is_one_line_and_nothing_is_left(tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def without_manifest(stored: Path) -> None:
    rewrite(stored, manifest=None)


def with_nonsense_for_a_manifest(stored: Path) -> None:
    rewrite(stored, manifest={"image": 3, "words": []})


def without_a_request(stored: Path) -> None:
    rewrite(stored, request=[])


def with_deep_attributes(stored: Path) -> None:
    (stored / "zarr.json").write_text("[" * 100_000 + "]" * 100_000)


def with_a_list_for_attributes(stored: Path) -> None:
    (stored / "zarr.json").write_text('{"attributes": []}')


def with_a_pipe_for_a_chunk(stored: Path) -> None:
    chunk = next(path for path in files_below(stored) if "c" in path.parent.parts)
    chunk.unlink()
    os.mkfifo(chunk)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "damage",
    [
        without_manifest,
        with_nonsense_for_a_manifest,
        without_a_request,
        with_deep_attributes,
        with_a_list_for_attributes,
        with_a_pipe_for_a_chunk,
    ],
)
def test_a_sealed_result_of_another_shape_is_one_clear_error(damage: Callable[[Path], None], stored: Path) -> None:
    damage(stored)
    with pytest.raises(StoreError, match=r"is incomplete or damaged|cannot read") as caught:
        sfumato.open(stored, verify=True)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "chunks", [[1, 1, 1, 1], [7, 7, 7, 7], [1000, 1000, 1000, 3], [0, 1, 1, 1], [-1, 2, 2, 2], [4], "all"]
)
def test_odd_chunks_are_one_clear_error_however_late_they_are_read(chunks: Any, stored: Path) -> None:
    def odd(node: dict[str, Any]) -> dict[str, Any]:
        return node | {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}

    own = stored / "image" / "pixels" / "zarr.json"
    own.write_text(json.dumps(odd(json.loads(own.read_text()))))
    root = json.loads((stored / "zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    nodes["image/pixels"] = odd(nodes["image/pixels"])
    (stored / "zarr.json").write_text(json.dumps(root))
    rewrite(stored, manifest=store._manifest(stored, hashes=True))
    with pytest.raises(StoreError, match="is incomplete or damaged"):
        sfumato.open(stored).image  # noqa: B018
