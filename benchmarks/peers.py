"""An environment of its own for the packages that Sfumato is compared with.

``.venv-peers`` holds nothing but those packages, installed without their dependencies: daam 0.2.0 asks for diffusers
0.21.2 and transformers 4.30.2, which do not exist beside the versions that Sfumato supports. Everything else (torch,
diffusers, Sfumato itself) is read from the environment that runs this file, so all contenders run on the same
libraries. What has to be pretended for that is in ``STAND_INS`` and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-peers"
WANTED = Path(__file__).with_name("peers.txt")

# daam imports spaCy for the parse trees of `parsed_heat_maps` and `dependency_relations`, which no benchmark calls;
# the import needs the names below and nothing of their behaviour.
STAND_INS = {
    "spacy/__init__.py": '"""Stand-in so that daam can be imported; it has no model."""\n\nfrom . import tokens\n',
    "spacy/tokens.py": '"""Stand-in for the one name in an annotation of daam."""\n\n\nclass Token:\n    pass\n',
}


@dataclass(frozen=True)
class Peers:
    """The environment of the peers.

    Attributes:
        python: Its interpreter.
        failures: Requirement to the last line of its failed installation.
    """

    python: Path
    failures: dict[str, str]


def prepare(say: Callable[[str], object], *, again: bool = False) -> Peers:
    """Make the environment, or find it as an earlier run with the same wishes left it.

    Args:
        say: Told what is being done.
        again: Make it anew.
    """
    python = HOME / "bin" / "python"
    state = HOME / "made-from"
    wish = _wish()
    if not again and state.is_file() and state.read_text(encoding="utf-8").splitlines()[:1] == [wish]:
        failures = dict(line.split("\t", 1) for line in state.read_text(encoding="utf-8").splitlines()[1:])
        return Peers(python, failures)
    say(f"Making {HOME.name} with {', '.join(requirements())}")
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=False, symlinks=True)
    (HOME / ".gitignore").write_text("*\n", encoding="utf-8")
    packages = _packages(python)
    # addsitedir also reads the .pth files there, one of which names the sources of Sfumato
    (packages / "shared.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", encoding="utf-8"
    )
    failures = {wanted: error for wanted in requirements() if (error := _install(python, wanted))}
    for name, text in STAND_INS.items():
        target = packages / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    state.write_text("\n".join([wish, *(f"{k}\t{v}" for k, v in failures.items())]) + "\n", encoding="utf-8")
    return Peers(python, failures)


def requirements() -> list[str]:
    """The wanted packages with their versions."""
    lines = (line.partition("#")[0].strip() for line in WANTED.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def run(
    peers: Peers, module: str, *arguments: str, threads: int = 1, surroundings: Mapping[str, str] | None = None
) -> int:
    """Run a module of this project in the environment of the peers; the result is its exit status.

    Args:
        peers: From ``prepare``.
        module: Its dotted name.
        arguments: Of its command line.
        threads: How many threads it may use.
        surroundings: More environment variables for it.
    """
    common = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "DISABLE_TELEMETRY": "YES",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "MPLBACKEND": "Agg",
        "XDG_CACHE_HOME": str(HOME / "cache"),  # daam makes a folder there
    }
    command = [str(peers.python), "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | common | dict(surroundings or {}), check=False).returncode


def _wish() -> str:
    text = "\n".join([sys.version, sysconfig.get_path("purelib"), *requirements(), *STAND_INS.values()])
    return hashlib.sha256(text.encode()).hexdigest()


def _packages(python: Path) -> Path:
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())


def _install(python: Path, wanted: str) -> str:
    """Install one package without its dependencies; the result is the last line of what went wrong, or nothing."""
    pip: list[str] = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    done = subprocess.run([*pip, "--quiet", "--no-deps", wanted], capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
    return " ".join(lines[-1].split())
