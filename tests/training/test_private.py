"""What the training needs of PyTorch that is not promised to stay."""

from __future__ import annotations

from pathlib import Path

import torch

import sfumato_training
from tests.models.test_private import IN_FILES, private_names_in

RELIED_ON = {"_foreach_lerp_": "running averages of weights"}
"""Names of torch, each with what for."""


def test_the_private_names_are_still_there() -> None:
    assert {name: why for name, why in RELIED_ON.items() if not hasattr(torch, name)} == {}


def test_no_other_private_name_is_used() -> None:
    (source,) = map(Path, sfumato_training.__path__)
    assert private_names_in(source) - IN_FILES - RELIED_ON.keys() == set()
