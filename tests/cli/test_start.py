"""A quick start: what needs no model loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"torch", "diffusers", "transformers", "xarray", "zarr", "matplotlib", "numpy", "scipy", "skimage", "PIL"}
LIGHT = [
    ["--help"],
    ["--version"],
    ["explain", "--help"],
    ["train", "--help"],
    ["bench", "words", "--help"],
    ["nonsense"],
    ["explain", "a red cat", "--sed", "7"],
    ["explain", "a red cat", "--seed", "-1"],
    ["explain", "a red cat", "--size", "large"],
    ["bench", "wrods"],
    ["train", "--list"],
    ["train", "nothing"],
]
SCRIPT = """
import json, sys
from sfumato.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    found.append([code, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))])
print("\\n" + json.dumps(found))
"""


def test_what_needs_no_model_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(LIGHT), json.dumps(sorted(HEAVY))],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = dict(zip(map(" ".join, LIGHT), json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert {command: heavy for command, (_, heavy) in found.items() if heavy} == {}
    assert [code for code, _ in found.values()] == [0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 0, 2]


def test_the_package_can_be_run_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", "explain", "a", "--seed", "-1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: seed is -1; expected a whole number from 0 to 9223372036854775807\n"


def test_bytes_that_are_no_text_and_an_ascii_terminal_are_no_trouble() -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", "explain", b"\xff\xf0\x9f\x99\x82"],
        capture_output=True,
        env=plain,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"error: prompt contains half of a surrogate pair at place 0, which is no valid text; remove it\n"
    )


def test_a_reader_that_stops_reading_is_no_trouble() -> None:
    command = f"{sys.executable} -m sfumato explain --help | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
