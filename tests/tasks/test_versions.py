"""A task whose numbers changed has another version, so that no run goes on with records of before."""

from __future__ import annotations

import pytest

from sfumato.runs.task import tasks
from tests.tasks.fingerprints import COMMAND, measured, stored
from tests.versions import check_names, check_version

QUICK = {"explain", "generate"}
LONG = {"localisation", "step_faithfulness", "word_shares"}
NAMES = [task.name for task in tasks() if type(task.parts).__module__.startswith("sfumato.")]


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    return [] if name in QUICK else [pytest.mark.slow, pytest.mark.soak] if name in LONG else [pytest.mark.slow]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name)) for name in NAMES])
def test_numbers_change_with_the_version_alone(name: str) -> None:
    check_version(name, measured(name), stored(), COMMAND)


def test_tasks_have_fingerprints_and_nothing_else_has() -> None:
    check_names(NAMES, stored(), COMMAND)
