"""All checks of an explanation together: which fit, what is refused, and what is kept, drawn and told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.caching.cache import default_folder
from sfumato.errors import OptionError, SfumatoError
from sfumato.generation.generate import generate
from sfumato.judging.judge import judge
from sfumato.judging.maps import named_maps, saliencies
from sfumato.judging.trust import CHECKS, Trust, cost, settled, trust
from sfumato.methods.daam import select
from sfumato.models.model import Model
from sfumato.plots.sheets import process_sheets
from sfumato.report.markup import number
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.opening import open as open_explanation
from tests.cli.running import run
from tests.judging.made_up import REQUEST
from tests.labels import REQUEST as LABEL
from tests.labels import tiny_labels
from tests.methods.steps import CLIP, model_of
from tests.pipelines import fingerprint, stable_diffusion
from tests.report.reading import Page

FEW: dict[str, Any] = {"repeats": 2, "stages": 2}
SHEETS = ("trust", "removal", "randomisation")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this file's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUMATO_CACHE", str(folder))
        assert Path(default_folder()).is_relative_to(folder)
        yield folder


@pytest.fixture(scope="module")
def model() -> Model:
    """A model whose weights are written to, so that no other test shares it."""
    return sfumato.wrap(stable_diffusion(sharpness=30))


@pytest.fixture(scope="module")
def labels() -> Model:
    return sfumato.wrap(tiny_labels())


@pytest.fixture(scope="module")
def explanation(model: Model) -> Explanation:
    return sfumato.explain(model, REQUEST)


@pytest.fixture(scope="module")
def checked(model: Model, explanation: Explanation) -> Trust:
    """All checks, after which weights, hooks and all else are as before."""
    before = weightless(model)
    image = generate(model, REQUEST).images[0].tobytes()
    told: list[tuple[str, int, int]] = []
    found = trust(model, explanation, progress=lambda *now: told.append(now), **FEW)
    assert weightless(model) == before
    assert generate(model, REQUEST).images[0].tobytes() == image
    assert {name for name, _, _ in told} == {"images without a word", "random weights", "other seeds", "changed noise"}
    assert all(1 <= done <= total for _, done, total in told)
    return found


def weightless(model: Model) -> dict[str, Any]:
    """What must be as before; weights were written to, and the image says whether they are the same."""
    return {name: fact for name, fact in fingerprint(model.pipeline).items() if not name.startswith("weight ")}


def checks_of(found: Trust) -> list[str]:
    return list(dict.fromkeys(one.check for one in found.measured))


def test_every_check_gives_numbers(checked: Trust) -> None:
    assert [(one.check, one.against) for one in checked.measured] == [
        ("removal", "the other words' maps"),
        ("removal", "a blob in the middle"),
        ("randomisation", "random maps"),
        ("seeds", "how far words are apart"),
        ("seeds", "maps of other words"),
        ("noise", "noise of another seed"),
    ]
    assert checked.left_out == ()
    for one in checked.measured:
        assert math.isfinite(one.value.mean)
        assert one.value.n == one.control.n == one.gain.n > 1
    noise = checked.measured[-1]
    assert 0 < noise.value.mean < noise.control.mean


def test_the_rows_say_what_was_measured(checked: Trust) -> None:
    for row, one in zip(checked.rows(), checked.measured, strict=True):
        assert row == {
            "check": one.check,
            "number": one.number,
            "value": one.value,
            "control": one.against,
            "its value": one.control,
            "difference": one.gain,
            "verdict": one.verdict,
        }


def test_the_nodes_hold_what_was_found(checked: Trust, explanation: Explanation) -> None:
    tree = checked.explanation.tree
    assert set(tree.children) == {*explanation.tree.children, "trust", "removal", "randomisation", "shares_by_seed"}
    for name in explanation.tree.children:
        assert tree[name].to_dataset().identical(explanation.tree[name].to_dataset())
    node = tree["trust"].to_dataset()
    for place, one in enumerate(checked.measured):
        numbers = node.isel(number=place)
        assert numbers["check"] == one.check
        assert numbers["what"] == one.number
        assert numbers["against"] == one.against
        assert numbers["verdict"] == one.verdict
        assert numbers["n"] == one.value.n
        for name in ("value", "control", "gain"):
            assert numbers[name].values.tolist() == list(getattr(one, name)[:3])
    assert node["end"].values.tolist() == ["mean", "low", "high"]
    assert tree["shares_by_seed"]["seed"].values.tolist() == [2, 3, 4]
    assert tree["removal"].sizes["word"] == 4
    assert tree["randomisation"].sizes["stage"] == 3
    assert checked.explanation.provenance["checked"] == {
        "checks": list(CHECKS),
        "repeats": 2,
        "stages": 2,
        "strength": 0.05,
    }
    assert checked.explanation.request == explanation.request
    assert "checked" not in explanation.provenance


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_alone_gives_the_same(check: str, model: Model, explanation: Explanation, checked: Trust) -> None:
    found = trust(model, explanation, [check, check], **FEW)
    assert checks_of(found) == [check]
    assert found.rows() == [row for row in checked.rows() if row["check"] == check]
    nodes = {"removal": {"removal"}, "randomisation": {"randomisation"}, "seeds": {"shares_by_seed"}, "noise": set()}
    assert set(found.explanation.tree.children) - set(explanation.tree.children) == {"trust", *nodes[check]}


def test_images_without_a_word_are_kept_for_the_next_time(
    model: Model, explanation: Explanation, checked: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **more: Any) -> None:
        pytest.fail("an image was made")

    monkeypatch.setattr("sfumato.caching.images.generate", refuse)
    assert trust(model, explanation, ["removal"], **FEW).rows() == checked.rows()[:2]


def test_checking_again_replaces_what_was_found(model: Model, checked: Trust) -> None:
    again = trust(model, checked.explanation, repeats=1, stages=3)
    assert set(again.explanation.tree.children) == set(checked.explanation.tree.children)
    assert again.explanation.tree["randomisation"].sizes["stage"] == 4
    assert again.explanation.tree["shares_by_seed"].sizes["seed"] == 2
    assert again.explanation.provenance["checked"]["stages"] == 3
    assert again.rows()[:2] == checked.rows()[:2]
    fewer = trust(model, checked.explanation, ["noise"], repeats=1)
    assert set(fewer.explanation.tree.children) == {"image", "words", "tokens", "trust"}
    same = trust(model, checked.explanation, **FEW)
    for node in checked.explanation.tree.subtree:
        found = same.explanation.tree[node.path].to_dataset(inherit=False)
        assert found.identical(node.to_dataset(inherit=False)), node.path


def test_what_was_kept_is_no_map_to_be_judged(model: Model, explanation: Explanation, checked: Trust) -> None:
    assert [one.name for one in saliencies(checked.explanation)] == ["words"]
    assert list(named_maps(checked.explanation)) == list(named_maps(explanation))
    played = judge(model, [checked.explanation], games=("deletion",), distances=("local_ssim",), points=2, at=(0,))
    assert {one.map for one in played.played} == {"words", "random", "centre"}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("profile", {"objects": ("samples", "attention"), "every": 3}),
        ("step_baselines", {"kinds": ("gradient",), "at": (1, 3)}),
    ],
)
def test_maps_without_words_are_checked_all_the_same(method: str, options: dict[str, Any], labels: Model) -> None:
    made = sfumato.explain(labels, LABEL, method, **options)
    found = trust(labels, made, **FEW)
    assert checks_of(found) == ["randomisation", "seeds", "noise"]
    assert found.left_out == ("removal: the explanation has no maps of the prompt's words",)
    assert found.explanation.provenance["checked"]["checks"] == ["randomisation", "seeds", "noise"]
    assert "shares_by_seed" not in found.explanation.tree.children
    names = list(named_maps(made))
    assert all(", step " in name for name in names)
    assert found.explanation.tree["randomisation"]["map"].values.tolist() == names
    drawn(found)
    with pytest.raises(
        SfumatoError, match="removal cannot be checked: the explanation has no maps of .*; leave it out"
    ):
        trust(labels, made, ["removal", "seeds"], **FEW)


@pytest.mark.parametrize("method", ["lime", "shapley"])
def test_shares_of_words_as_players_are_compared(method: str, model: Model) -> None:
    made = sfumato.explain(model, REQUEST.with_(prompt="red cat", steps=1, guidance=1), method, similarity_model=CLIP)
    found = trust(model, made, repeats=1, stages=1)
    assert checks_of(found) == ["randomisation", "seeds", "noise"]
    assert found.left_out == ("removal: the explanation has no maps of the prompt's words",)
    assert found.explanation.tree["shares_by_seed"]["word"].values.tolist() == ["red", "cat"]
    assert found.explanation.tree["randomisation"]["map"].values.tolist() == ["worths"]
    assert [one.value.n for one in found.measured if one.number == "how far shares move by seed"] == [2]
    drawn(found)


def test_words_that_the_prompt_does_not_have_cannot_be_left_out(model: Model) -> None:
    made = sfumato.explain(model, REQUEST, "ovam", text=("crown", "sky"))
    found = trust(model, made, repeats=1, stages=1)
    assert checks_of(found) == ["randomisation", "seeds", "noise"]
    assert found.left_out == ("removal: the explanation has no maps of the prompt's words",)


def test_the_noise_of_a_variation_is_changed_already(model: Model) -> None:
    made = sfumato.explain(model, REQUEST.with_(variation=(9, 0.5)))
    found = trust(model, made, ["seeds"], **FEW)
    assert found.explanation.request.variation == (9, 0.5)
    checks, left_out = settled(model, made, None, 2, 2, 0.05)
    assert checks == ("removal", "randomisation", "seeds")
    assert left_out == ("noise: the explanation is of a variation, so its noise is changed already",)
    with pytest.raises(SfumatoError, match="noise cannot be checked: the explanation is of a variation"):
        trust(model, made, ["noise"], **FEW)


@pytest.mark.parametrize(
    ("checks", "numbers", "message"),
    [
        (["magic"], {}, "there is no check 'magic'; choose from: removal, randomisation, seeds, noise"),
        (["seeds", "games"], {}, "there is no check 'games'"),
        ([], {}, "no check is chosen; choose from: removal, randomisation"),
        (None, {"repeats": 0}, "repeats is 0; expected a whole number from 1 to 100000"),
        (None, {"repeats": True}, "repeats is True"),
        (None, {"repeats": 1.5}, "repeats is 1.5"),
        (None, {"stages": 0}, "stages is 0; expected a whole number from 1 to 100000"),
        (None, {"stages": -3}, "stages is -3"),
        (None, {"stages": "2"}, "stages is '2'; expected a whole number"),
        (None, {"strength": 0}, "strength is 0; expected a number between 0 and 1, both excluded"),
        (None, {"strength": 1.0}, "strength is 1.0"),
        (None, {"strength": -0.1}, "strength is -0.1"),
        (None, {"strength": math.nan}, "strength is nan"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_made(
    checks: list[str] | None,
    numbers: dict[str, Any],
    message: str,
    model: Model,
    explanation: Explanation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    hook = model.denoiser.register_forward_hook(lambda *given: calls.append(1))
    with pytest.raises(OptionError, match=message):
        trust(model, explanation, checks, **numbers)
    hook.remove()
    assert calls == []


def test_what_cannot_be_checked_is_refused(model: Model, labels: Model, explanation: Explanation) -> None:
    several = sfumato.explain(model, REQUEST.with_(images=2))
    with pytest.raises(SfumatoError, match="this explanation has 2 images; select one of them first"):
        trust(model, several)
    assert checks_of(trust(model, several.select(1), ["seeds"], **FEW)) == ["seeds"]
    with pytest.raises(SfumatoError, match="with other weights than those of .*; give the model that made it"):
        trust(model_of("text"), explanation)
    unknown = Explanation(explanation.tree, explanation.request, {})
    with pytest.raises(SfumatoError, match="does not say which method made it"):
        trust(model, unknown)
    nothing = sfumato.explain(labels, LABEL, "switch", to="1100")
    with pytest.raises(SfumatoError, match="holds no map of the image; its nodes are: image"):
        trust(labels, nothing)
    part = select(sfumato.explain(model, REQUEST, keep=("step",)), steps=[1])
    with pytest.raises(SfumatoError, match="is a selection of steps, layers or heads"):
        trust(model, part)


def test_what_it_costs_is_what_is_made(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request = Request("red cat, dog", seed=5, steps=1, guidance=1, height=16, width=16)
    made = sfumato.explain(model, request)
    assert cost(made, model, CHECKS, 4, 6) == "3 images without a word and 14 runs of daam"
    assert cost(made, model, ("removal",), 4, 6) == "3 images without a word and 0 runs of daam"
    assert cost(made, model, ("seeds",), 4, 6) == "0 images without a word and 4 runs of daam"
    assert cost(made, model, ("noise",), 3, 6) == "0 images without a word and 6 runs of daam"
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    calls: list[int] = []
    hook = model.denoiser.register_forward_hook(lambda *given: calls.append(1))
    trust(model, made, repeats=1, stages=2)
    hook.remove()
    assert len(calls) == 3 + 2 + 1 + 1 + 1  # and one call to see the order of the blocks


def drawn(found: Trust) -> Page:
    """The page of what was found, its sheets looked at."""
    sheets = process_sheets(found.explanation)
    names = ["trust", *(name for name in ("removal", "randomisation") if name in found.explanation.tree.children)]
    assert [name for name in sheets if name in SHEETS] == names
    for name in names:
        picture = sheets[name](found.explanation)
        assert isinstance(picture, Image.Image)
        assert min(picture.size) > 200
        assert np.asarray(picture.convert("L")).std() > 5
    read = Page(page(found.explanation))
    assert read.broken == ""
    return read


def test_the_page_tells_every_number_and_verdict(checked: Trust) -> None:
    read = drawn(checked)
    rows = [row.text for row in read.all("tr")]
    for one in checked.measured:
        (told,) = [row for row in rows if row.startswith(one.number) and one.against in row]
        assert told.endswith(one.verdict)
        for interval in (one.value, one.control):
            assert f"{number(interval.mean, 3)} [{number(interval.low, 3)}, {number(interval.high, 3)}]" in told
    titles = [image.attrs["alt"] for image in read.all("img", class_="sheet")]
    assert titles == ["How far can this be trusted?", "Without each word", "With random weights"]
    assert "Shares from other seeds" in read.source
    assert sum(row.startswith(("red", "cat", "dog", "left")) for row in rows) >= 4


def test_numbers_that_nobody_knows_can_be_drawn_and_stored(model: Model, tmp_path: Path) -> None:
    found = trust(model, sfumato.explain(model, REQUEST.with_(prompt="cat")), repeats=1, stages=1)
    assert math.isnan(float(found.explanation.tree["removal"]["agreement_of_others"][0]))
    assert {one.verdict for one in found.measured if one.gain.n < 2} == {"inconclusive"}
    drawn(found)
    found.explanation.save(tmp_path / "one.zarr")
    assert open_explanation(tmp_path / "one.zarr", verify=True).tree["removal"].sizes["word"] == 1


def test_the_result_is_stored_opened_and_told_about(checked: Trust, tmp_path: Path) -> None:
    folder = tmp_path / "checked"
    checked.explanation.save(folder)
    opened = open_explanation(folder, verify=True)
    for node in checked.explanation.tree.subtree:
        stored = opened.tree[node.path].to_dataset(inherit=False).load()
        assert stored.identical(node.to_dataset(inherit=False)), node.path
    shown = run("open", str(folder), "--report", str(tmp_path / "page.html"))
    assert (shown.code, shown.err) == (0, "")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page(checked.explanation)
