"""No option of any command that writes ever takes away a device or a pipe, nor a person's file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from PIL import Image

from sfumato.cli.app import app
from tests.cli.running import run

WRITES = {"--out", "--report", "--picture"}
NO_FOLDER = "is a file; give the name of a folder"
NO_FILE = "is no regular file, so it is not replaced; give the name of a file"
A_PART = "a part of the path is a file"

# What else each command needs, and what it says of a place that is a device.
PROMPTED = (
    *("explain", "generate", "judge", "parts_of_speech", "relations", "counts", "cohyponyms", "swapped_adjectives"),
    *("colour_leakage", "scrambled", "frequency_levels", "leading_words", "settled_attributes"),
    *("relevance_by_schedule", "word_localisation", "segment_matching", "word_importance", "map_faithfulness"),
    *("calibration", "step_faithfulness"),
)
"""Tasks that take prompts."""
NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "explain --out": (("a cat",), NO_FOLDER),
    "open --report": (("MADE",), NO_FILE),
    "compare --out": (("MADE", "MADE"), NO_FILE),
    "judge --out": (("MADE",), NO_FOLDER),
    "calibrate --out": ((), NO_FOLDER),
    "experiment --out": (("switch",), NO_FOLDER),
    "train --out": (("scenes", "--stage", "data"), A_PART),
    "studio draw --out": ((), NO_FOLDER),
    **{f"run {name} --out": (("--prompts", "1"), NO_FOLDER) for name in PROMPTED},
    "run word_shares --out": ((), NO_FOLDER),
    "run rank_agreement --out": ((), NO_FOLDER),
    **{f"run {name} --out": ((), NO_FOLDER) for name in ("emergence", "localisation", "ablation")},
    **{f"run {name} --out": ((), NO_FOLDER) for name in ("artifact", "divergence", "switch", "reference_pointing")},
    "run merge --out": (("MADE",), NO_FOLDER),
}


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every option of every command that names what is written."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, (*path, name))
    for parameter in command.params:
        for name in WRITES & set(parameter.opts):
            yield path, name


EVERY = [" ".join((*path, name)) for path, name in options(typer.main.get_command(app))]


def test_every_option_that_writes_is_tried() -> None:
    assert sorted(NEEDS) == sorted(EVERY)


@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.parametrize("option", sorted(NEEDS))
def test_a_device_or_a_pipe_is_never_replaced(
    option: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path("/dev/full") if kind == "device" else tmp_path / "pipe.png"
    if kind == "pipe":
        os.mkfifo(place)
    *command, name = option.split()
    given, message = NEEDS[option]
    if "MADE" in given:
        given = tuple(str(request.getfixturevalue("made")) if one == "MADE" else one for one in given)
    if command == ["compare"]:
        monkeypatch.setattr("sfumato.metrics.divergence.diverge", lambda *of: None)
        monkeypatch.setattr("sfumato.plots.divergence.divergence_sheet", lambda *of: Image.new("RGB", (4, 4)))
    if place.suffix != ".png" and {name, *command} & {"compare", "--picture"}:
        place = tmp_path / "link.png"
        place.symlink_to("/dev/full")
    before = os.stat(place)
    for part in ("replace", "rename"):
        own = getattr(os, part)
        monkeypatch.setattr(os, part, lambda old, new, own=own: refuse(new) if is_at(new, before) else own(old, new))
    done = run(*command, *given, name, str(place))
    if command in (["experiment"], ["calibrate"]):  # which say before what they are called now
        assert done.code == 2
        assert message in done.err.splitlines()[1]
    else:
        assert message in done.error
    assert os.stat(place) == before
    assert len(list(tmp_path.iterdir())) == (kind == "pipe" or place.parent == tmp_path)


def is_at(path: Path, state: os.stat_result) -> bool:
    """Whether a name is that of what must stay."""
    return os.path.exists(path) and os.path.samestat(os.stat(path), state)


def refuse(path: Path) -> None:
    pytest.fail(f"{path} would be replaced")
