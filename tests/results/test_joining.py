from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from sfumato.errors import SfumatoError
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node
from sfumato.results.joining import join


def explanation(method: str, prompt: str = "a red circle", **nodes: xr.Dataset) -> Explanation:
    request = Request(prompt, steps=2)
    image = image_node([np.zeros((8, 8, 3), np.uint8)], [0])
    provenance: dict[str, Any] = {"method": method, "model": "studio/scenes", "seconds": 1.5, "notes": [f"of {method}"]}
    return Explanation(xr.DataTree.from_dict({"image": image, **nodes}), request, provenance)


def node(value: float) -> xr.Dataset:
    return xr.Dataset({"phi": ("player", [value])})


def test_all_nodes_and_what_each_method_said_of_itself() -> None:
    joined = join(
        [explanation("shapley", **{"shapley/phi": node(1.0)}), explanation("lime", **{"lime/phi": node(2.0)})]
    )
    assert float(joined.tree["shapley/phi"]["phi"][0]) == 1
    assert float(joined.tree["lime/phi"]["phi"][0]) == 2
    assert joined.provenance["method"] == "shapley, lime"
    assert joined.provenance["model"] == "studio/scenes"
    assert joined.provenance["seconds"] == 3
    assert joined.provenance["notes"] == ["of shapley", "of lime"]
    assert [part["method"] for part in joined.provenance["parts"]] == ["shapley", "lime"]


def test_words_out_of_vocabulary_are_those_of_all_methods() -> None:
    one, other = explanation("daam"), explanation("ovam")
    one.provenance["out_of_vocabulary"] = ["zebra"]
    other.provenance["out_of_vocabulary"] = ["Lion", "zebra"]
    joined = join([one, other])
    assert joined.out_of_vocabulary == {"lion", "zebra"}
    assert all("out_of_vocabulary" not in part for part in joined.provenance["parts"])


def test_one_explanation_stays_as_it_is() -> None:
    one = explanation("daam")
    assert join([one]) is one


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(SfumatoError, match="different requests"):
        join([explanation("shapley"), explanation("lime", prompt="a blue circle")])
    with pytest.raises(SfumatoError, match="have the node 'phi'"):
        join([explanation("shapley", phi=node(1.0)), explanation("lime", phi=node(2.0))])
    with pytest.raises(SfumatoError, match="at least one"):
        join([])
