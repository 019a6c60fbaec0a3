"""Any text at all as a prompt: a result or one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.cli.running import run

SOME = st.text(st.characters(exclude_categories=()), max_size=12)
ODD = st.text(
    st.sampled_from("ab ,.#<|>/\\\"'[]{}$%~-_\0\n\r\t\x1b\u200b\u200d\u202e\ufeff\ufffd\u0301🙂🇩אبक中\ud800"),
    max_size=12,
)


@pytest.mark.usefixtures("lent")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.one_of(SOME, ODD))
@example("")
@example("--help")
@example("[bold]a[/bold] {word} $HOME %s")
@example("$\\frac{a}{b$ _ ^")
@example("<|endoftext|> <script>alert(1)</script>")
def test_any_prompt_gives_a_result_or_one_line(prompt: str) -> None:
    with TemporaryDirectory() as place:
        out = Path(place, "out")
        done = run("explain", "--steps", "1", "--size", "16x16", "--out", str(out), "--json", "--", prompt)
        if done.code == 2:
            assert done.error
            assert not list(Path(place).iterdir())
        else:
            assert done.code == 0, done
            assert json.loads(done.out)["request"]["prompt"] == prompt
            assert [path.name for path in Path(place).iterdir()] == ["out"]
