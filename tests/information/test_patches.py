"""Patches of a reference: what is left out is what is not told, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import sfumato
from sfumato.errors import OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.information.estimating import Contexts, sample
from sfumato.information.levels import levels_at
from sfumato.information.parts import asked_of
from sfumato.information.patches import NEUTRAL, conditions_of, only_patch, patches_of, without_patch
from sfumato.inputs.image import Picture
from sfumato.models.model import Model
from sfumato.results.explanation import Explanation
from tests.methods.steps import REQUESTS, model_of
from tests.references import pictures, reference_request, tiny_references

OPTIONS: dict[str, Any] = {"samples": 4, "at": (200, 600)}


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_references())


@pytest.fixture(scope="module")
def found(model: Model) -> Explanation:
    return sfumato.explain(model, reference_request(), "information", **OPTIONS)


def test_patches_share_out_the_picture() -> None:
    covered = np.zeros((30, 50), int)
    names = []
    for name, box in patches_of(30, 50):
        covered[box] += 1
        names.append(name)
    assert (covered == 1).all()
    assert (len(names), names[0], names[6]) == (16, "patch 1, 1", "patch 2, 3")


def test_a_patch_is_left_out_or_left_alone() -> None:
    reference = Picture.of(pictures()[0])
    _, box = patches_of(reference.height, reference.width)[6]
    less, alone = without_patch(reference, box).array, only_patch(reference, box).array
    inside = np.zeros(less.shape, bool)
    inside[box] = True
    assert (less[inside] == NEUTRAL).all()
    assert (alone[~inside] == NEUTRAL).all()
    np.testing.assert_array_equal(less[~inside], reference.array[~inside])
    np.testing.assert_array_equal(alone[inside], reference.array[inside])


def test_every_patch_has_a_map_that_sums_to_its_worth(found: Explanation) -> None:
    worth = found.tree["information/word_importance"].to_dataset()
    assert worth["player"].values.tolist() == [name for name, _ in patches_of(1, 1)]
    assert worth.attrs["value"] == "nats of information about the image, given the other patches"
    maps = found.tree["information/maps"]["nats"]
    assert maps.shape == (16, 16, 16)
    assert float(maps.min()) >= 0
    np.testing.assert_allclose(maps.sum(("y", "x")), worth["phi"], rtol=1e-4)
    assert "words" not in found.tree.children
    assert found.provenance["information"]["denoiser_calls"] == 4 * 17


def test_a_patch_that_is_neutral_already_tells_nothing(model: Model) -> None:
    """The reference is grey but for one patch, so only that one tells, given the rest or alone."""
    grey = np.full((128, 128, 3), NEUTRAL, np.uint8)
    _, box = patches_of(128, 128)[9]
    grey[box] = np.random.default_rng(0).integers(0, 255, grey[box].shape, np.uint8)
    one = sfumato.explain(model, reference_request(reference=grey), "information", **OPTIONS)
    nats = one.tree["information/word_importance"]["phi"].values
    assert np.flatnonzero(nats > 1e-12).tolist() == [9]
    alone = sfumato.explain(model, reference_request(reference=grey), "information", given="empty", **OPTIONS)
    nats = alone.tree["information/word_importance"]["phi"].values
    assert nats.argmax() == 9 or np.unique(nats.round(6)).size == 2
    np.testing.assert_allclose(np.delete(nats, 9), np.delete(nats, 9)[0], rtol=1e-4)  # all others are wholly grey


def test_the_maps_are_those_of_the_references_read_again(model: Model, found: Explanation) -> None:
    request = model.complete(reference_request())
    assert request.reference is not None
    trace = generate(model, request, record=(0,))
    _, box = patches_of(request.reference.height, request.reference.width)[5]
    chosen = (request.reference, without_patch(request.reference, box))
    own = sample(
        trace,
        trace.latents,
        Contexts(("all", "less"), ((1, 0),), pictures=chosen),
        levels_at(model, (200, 600)),
        samples=4,
        adapt=False,
    )
    np.testing.assert_allclose(
        found.tree["information/maps"]["nats"].values[5], own.maps[0], rtol=1e-3, atol=1e-6 * own.maps.max()
    )
    recorded = trace.call(0).condition
    assert recorded is not None
    torch.testing.assert_close(conditions_of(model, chosen)[:1], recorded[1:])  # as the pipeline itself reads it
    assert not conditions_of(model, [None]).any()


def test_along_the_run_there_is_no_chance(model: Model) -> None:
    one, other = (
        sfumato.explain(model, reference_request(), "information", of="trajectory", seed=seed) for seed in (0, 1)
    )
    xr.testing.assert_identical(one.tree["information/maps"].to_dataset(), other.tree["information/maps"].to_dataset())
    assert one.provenance["information"]["denoiser_calls"] == 3 * 17


def test_what_cannot_be_asked_says_so(model: Model) -> None:
    request = model.complete(reference_request())
    with pytest.raises(OptionError, match="pairs are of words; leave them out for patches"):
        asked_of(model, request, None, "rest", ["red+cat"])
    with pytest.raises(OptionError, match="players is 'word', but .* reads patches of a reference"):
        asked_of(model, request, "word", "rest")
    text = model_of("text")
    with pytest.raises(OptionError, match="players is 'patch', but .* reads no reference patch by patch; take studio"):
        asked_of(text, text.complete(REQUESTS["text"]), "patch", "rest")
    with pytest.raises(RequestError, match="reference"):
        sfumato.explain(model, reference_request(reference=None), "information")
