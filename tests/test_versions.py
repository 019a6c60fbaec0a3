"""What counts as a change of stored numbers, and what is asked for after one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.versions import agree, check_version


def test_rounding_is_no_change_and_a_changed_number_is() -> None:
    numbers = {"words/map": [64.0, 0.25, 0.1]}
    assert agree(numbers, {"words/map": [64.0, 0.251, 0.1005]})
    for other in ([64.0, 0.26, 0.1], [64.0, 0.25, 0.102], [63.0, 0.25, 0.1]):
        assert not agree(numbers, {"words/map": other})
    assert not agree(numbers, {})


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        ({"version": 1, "numbers": {"words/map": [64.0, 0.3, 0.1]}}, "raise the version of daam"),
        ({"version": 2, "numbers": {"words/map": [64.0, 0.25, 0.1]}}, "store the fingerprint of version 2"),
        ({"version": 1, "numbers": {}}, "raise the version of daam"),
    ],
)
def test_a_change_without_its_version_and_a_version_without_its_fingerprint_fail(
    now: dict[str, Any], wanted: str
) -> None:
    before = {"daam": {"version": 1, "numbers": {"words/map": [64.0, 0.25, 0.1]}}}
    check_version("daam", before["daam"], before, "python -m fingerprints")
    with pytest.raises(AssertionError, match=f"{wanted}.*python -m fingerprints daam"):
        check_version("daam", now, before, "python -m fingerprints")
