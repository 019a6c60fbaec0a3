"""``sfumato compare`` and ``sfumato layers`` on results and models on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import sfumato
from sfumato.generation.feature_layers import layers_of
from sfumato.metrics.divergence import diverge
from sfumato.results.interval import decimal
from sfumato.results.opening import open as open_explanation
from tests.cli.running import run
from tests.labels import REQUEST, square, tiny_labels


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles of two labels and of another seed, and a result that is no profile."""
    folder = tmp_path_factory.mktemp("profiles")
    model = sfumato.wrap(tiny_labels(prediction_type="v_prediction"))
    requests = {"one": REQUEST, "two": REQUEST.with_(label="1100"), "seed": REQUEST.with_(seed=9)}
    for name, request in requests.items():
        sfumato.explain(model, request, "profile").save(folder / name)
    sfumato.explain(model, REQUEST, "gradient_volume", mask=square(), mode="region").save(folder / "volume")
    return folder


@pytest.fixture(scope="module")
def label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "labels"
    tiny_labels().save_pretrained(folder)
    return folder


def test_two_profiles_are_compared_step_by_step(results: Path) -> None:
    one, two = str(results / "one"), str(results / "seed")
    done = run("compare", one, two)
    assert (done.code, done.err) == (0, "")
    steps = diverge(open_explanation(one), open_explanation(two)).steps
    assert re.search(r"step +timestep +normalised_ssim +attention", done.out)
    for place, value in enumerate(steps["normalised_ssim"].values):
        line = rf"\b{place} +{float(steps['timestep'][place]):.3f} +{re.escape(decimal(value))}\b"
        assert re.search(line, done.out), place
    assert done.out.splitlines()[-1] == "their samples part at t = 999"


def test_a_profile_and_itself_stay_alike(results: Path) -> None:
    done = run("compare", str(results / "one"), str(results / "one"))
    assert done.out.splitlines()[-1] == "their samples stay alike (normalised SSIM of at least 1.000) to the end"


def test_the_limit_decides_where_they_part(results: Path) -> None:
    one, two = str(results / "one"), str(results / "two")
    values = diverge(open_explanation(one), open_explanation(two)).steps["normalised_ssim"].values
    assert 0 < values[-1] < values[0] == 1
    strict = json.loads(run("compare", one, two, "--apart", "0.9999999", "--json").out)
    loose = json.loads(run("compare", one, two, "--apart", str(float(values.min()) - 0.01), "--json").out)
    assert strict["parts_at"] == 832
    assert loose["parts_at"] is None


def test_numbers_as_json(results: Path) -> None:
    done = run("compare", str(results / "one"), str(results / "two"), "--json")
    assert (done.code, done.err) == (0, "")
    printed = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [row["step"] for row in printed["steps"]] == [0, 1, 2, 3, 4, 5, 6]
    assert printed["steps"][0]["normalised_ssim"] == 1
    assert printed["steps"][0]["attention"] > 0
    assert printed["steps"][-1]["attention"] is None  # the final sample was never read


def test_both_can_be_drawn(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "both.png"
    done = run("compare", str(results / "one"), str(results / "two"), "--out", str(file))
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"the picture is in {file}"
    with Image.open(file) as picture:
        assert picture.width > 800
    assert [path.name for path in file.parent.iterdir()] == ["both.png"]


def test_what_cannot_be_compared_is_an_error(results: Path, tmp_path: Path) -> None:
    one = str(results / "one")
    assert "the second result holds no samples" in run("compare", one, str(results / "volume")).error
    assert "the first result holds no samples" in run("compare", str(results / "volume"), one).error
    assert "does not exist" in run("compare", one, str(tmp_path / "absent")).error
    assert "holds no zarr.json" in run("compare", one, str(tmp_path)).error
    assert "ends in .png" in run("compare", one, one, "--out", str(tmp_path / "both.txt")).error
    assert not list(tmp_path.iterdir())
    assert run("compare", one).code == 2


def test_layers_are_listed_with_their_shapes(label_folder: Path) -> None:
    done = run("layers", str(label_folder))
    assert (done.code, done.err) == (0, "")
    model = sfumato.wrap(tiny_labels())
    known = layers_of(model, model.complete(REQUEST))
    assert done.out.splitlines()[0] == f"labels: {len(known)} layers"
    assert re.search(r"^downs\.0\.3 +Conv2d +8 +8x8 +2048$", done.out, re.MULTILINE)
    assert re.search(r"^mid_attn\.fn\.1 +LinearAttention +16 +8x8 +4096$", done.out, re.MULTILINE)
    assert all(re.search(rf"^{re.escape(layer.name)} ", done.out, re.MULTILINE) for layer in known)


def test_layers_are_chosen_by_globs(label_folder: Path) -> None:
    printed = json.loads(run("layers", str(label_folder), "downs.*.3", "mid_attn", "--json").out)
    assert [layer["name"] for layer in printed] == ["downs.0.3", "downs.1.3", "mid_attn"]
    size = {"channels": 8, "height": 8, "width": 8, "bytes": 2048}
    assert printed[0] == {"name": "downs.0.3", "kind": "Conv2d", **size}
    assert [layer["name"] for layer in json.loads(run("layers", str(label_folder), "**.fn", "--json").out)] == [
        "downs.0.2.fn",
        "downs.1.2.fn",
        "mid_attn.fn",
        "ups.0.2.fn",
    ]


def test_layers_of_a_latent_model(model_folder: Path) -> None:
    printed = json.loads(run("layers", str(model_folder), "**.attn1", "--json").out)
    assert [(layer["kind"], layer["channels"], layer["height"]) for layer in printed] == [("Attention", 64, 16)] * 4


def test_an_unknown_layer_or_model_is_an_error(label_folder: Path, tmp_path: Path) -> None:
    found = run("layers", str(label_folder), "mid_atn")
    assert "no layer matches 'mid_atn'; near are: mid_attn" in found.error
    assert "there is no model" in run("layers", str(tmp_path / "absent")).error
