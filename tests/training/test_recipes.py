"""What all recipes have in common."""

from __future__ import annotations

import dataclasses

import pytest

from sfumato_training.recipes import _function, names, recipe
from sfumato_training.shared_settings import Whole


@pytest.mark.parametrize("name", names())
def test_a_recipe_names_functions_that_are_there_and_a_stage_for_each_part_of_its_settings(name: str) -> None:
    how = recipe(name)
    assert how.name == name
    for function in (how.data, *how.trained.values(), how.write):
        assert callable(_function(function))
    own = {field.name for field in dataclasses.fields(how.config)} - {field.name for field in dataclasses.fields(Whole)}
    assert own == set(how.stages)
    assert how.load().name == name
