"""The reference model that ships inside the package: its files, what it paints, and the command of its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato.generation.generate import generate
from sfumato.models.loading import STUDIO
from sfumato.results.opening import open as open_explanation
from sfumato.studio.garments import pair
from sfumato.studio.garments_scoring import request_of, score_garments
from tests.cli.running import run

FOLDER = STUDIO / "insert"
EXAMPLE = Path(__file__).parents[2] / "examples" / "garment"


def test_the_files_are_small_and_safe() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for told in ("## Data", "## Training", "hours", "pattern right", "psnr inside", "CPU cores"):
        assert told in card, told
    assert "Not measured" not in card


def test_the_example_is_the_pair_of_its_seed() -> None:
    from PIL import Image

    one = pair(8)
    for name in ("reference", "reference_mask", "scene", "mask", "target"):
        with Image.open(EXAMPLE / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), getattr(one, name))


def test_a_seed_repeats_and_the_reference_decides() -> None:
    model = sfumato.load("studio/insert")
    request = request_of(pair(8), 0).with_(steps=6)
    other = request.with_(reference=pair(5).reference)
    first, again, changed = (np.asarray(generate(model, one).images[0], float) for one in (request, request, other))
    np.testing.assert_array_equal(first, again)
    apart = np.abs(first - changed).mean(-1)
    assert apart[pair(8).worn].mean() > 4 * apart[~pair(8).mask].mean()


@pytest.mark.soak
def test_it_paints_what_references_show() -> None:
    found = {one.measure: one.mean for one in score_garments(sfumato.load("studio/insert"), 24, seed=500).figures}
    assert found["pattern right"] >= 0.8
    assert found["base right"] >= 0.7
    assert found["psnr outside"] >= 24


@pytest.mark.slow
def test_painted_places_look_where_they_come_from(tmp_path: Path) -> None:
    found = sfumato.run("reference_pointing", sfumato.load("studio/insert"), out=tmp_path / "run", pairs=6, seed=500)
    right = found.items.groupby("what")["right patch"].mean()
    assert right["all"] > 3 * right["control: random"]


@pytest.mark.slow
def test_the_command_of_the_page(tmp_path: Path) -> None:
    out = tmp_path / "insert"
    pictures = [word for name, file in (("reference", "reference"), ("image", "scene"), ("mask", "mask"))
                for word in (f"--{name}", str(EXAMPLE / f"{file}.png"))]  # fmt: skip
    found = run(
        "explain", "--model", "studio/insert", *pictures, "--method", "i2am", "--at", "40,64", "--out", str(out)
    )
    assert (found.code, found.err) == (0, "")
    assert {"image.png", "i2am.png", "i2am_points.png", "report.html"} <= {path.name for path in out.iterdir()}
    assert open_explanation(out / "explanation.zarr").tree["i2am"]["specific"].shape == (1, 8, 8)
