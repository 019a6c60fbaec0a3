"""The import order and the shape of the source, read from the source itself.

Data flows one way (request, model, generation, method, explanation, metrics and pictures, command line) and a part
imports only what stands below it. What is below what is written here once, in `MAY_IMPORT`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sfumato"
TRAINING_SOURCE = ROOT / "training" / "src" / "sfumato_training"
LONGEST_FILE = 450
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "stuff"}
HEAVY = {"torch", "diffusers", "transformers", "matplotlib"}

FOUNDATION = {
    "errors",
    "progress",
    "bounds",
    "reading",
    "writing",
    "inputs",
    "request",
    "option_values",
}
READERS = ("results", "metrics", "plots", "report")
OBSERVED = {"generation.hooks", "generation.clock", "generation.context"}
GENERATION = OBSERVED | {"generation", "generation.recorders", "generation.interventions", "generation.trace"}
MAKERS = FOUNDATION | {
    "caching",
    "caching.cache",
    "similarity",
    "games",
    "models",
    *GENERATION,
    "registry",
    "saliency",
    "results",
    "metrics",
    "segments",
    "information",
}

# A module belongs to the longest name here that it starts with, so one module of a package may have a place of its own.
MAY_IMPORT: dict[str, set[str]] = {
    # the foundation
    "errors": set(),
    "progress": set(),
    "bounds": {"errors"},
    "reading": {"errors", "bounds"},
    "writing": {"errors", "bounds"},
    "inputs": {"errors", "bounds", "reading"},
    "request": {"errors", "bounds", "inputs"},
    "option_values": {"errors", "bounds", "inputs", "request"},
    # what reads explanations: no model is needed, so no torch
    "results": FOUNDATION,
    "metrics": FOUNDATION | {"registry", "results"},
    "plots": FOUNDATION | {"results", "metrics"},
    "report": FOUNDATION | {"results", "metrics", "plots"},
    # what makes explanations
    "pipelines": FOUNDATION,
    "models": FOUNDATION | {"pipelines"},
    "generation.hooks": FOUNDATION,
    "generation.clock": FOUNDATION | {"models", "generation.hooks"},
    "generation.context": FOUNDATION | {"models", "generation.hooks", "generation.clock"},
    "generation.recorders": FOUNDATION | {"models"} | OBSERVED,
    "generation.interventions": FOUNDATION | {"models"} | OBSERVED,
    "generation.trace": FOUNDATION | {"models", "results"} | OBSERVED,
    "generation": FOUNDATION | {"models"} | GENERATION - {"generation"},
    "trace": set(),  # the old name of a part
    "registry": FOUNDATION | {"models", "results"},
    "options": FOUNDATION | {"registry"},
    "caching.cache": FOUNDATION,
    "caching": FOUNDATION | {"caching.cache", "models"} | GENERATION,
    "similarity": FOUNDATION | {"models", "caching", "caching.cache"},
    "games": FOUNDATION | {"models", "caching", "similarity"},
    "segments": FOUNDATION | {"models", "results", "similarity", "caching"} | GENERATION,
    "saliency": FOUNDATION | {"games", "models", "results"} | GENERATION,
    "information": FOUNDATION | {"games", "models"} | GENERATION,
    "methods": MAKERS,
    "explain": MAKERS | {"methods"},
    "judging": MAKERS | {"explain"},
    "runs": FOUNDATION | {"caching.cache", "metrics", "models", "registry", "results"},
    "tasks": MAKERS | {"methods", "explain", "options", "plots", "runs", "judging", "studio"},
    # the embedded models are made and scored with all of the above; the command line stands on top
    "studio": MAKERS | {"pipelines"},
    "cli": MAKERS
    | {"methods", "explain", "judging", "plots", "report"}
    | {"studio", "options", "app", "runs", "tasks"},
    "app": MAKERS | {"methods", "explain", "judging", "options", "plots", "report", "runs", "studio"},
    "__main__": {"cli"},
}

BEHIND_A_DOOR = {"app": "sfumato.app.serving"}
"""Parts that are nothing without their extra, each with the module by which others enter; it says what is missing."""


@dataclass(frozen=True)
class Import:
    """One import statement: the module it names, and whether it runs when the importing module is loaded."""

    target: str
    line: int
    at_load: bool


def modules(source: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = (source.name, *path.relative_to(source).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules(SOURCE)
TRAINING = modules(TRAINING_SOURCE)
"""The package that trains the embedded models, which stands on top of everything."""
ALL = MODULES | TRAINING


def imports(name: str) -> Iterator[Import]:
    """The imports of a module, with `from package import module` resolved to the module where there is one."""
    path = ALL[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    yield from _read(path, package)


@cache
def _read(path: Path, package: str) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), package, at_load=True))


def _imports(node: ast.AST, package: str, *, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_load)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                above = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in child.names:
                whole = f"{base}.{alias.name}"
                yield Import(whole if whole in ALL else base, child.lineno, at_load)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), package, at_load=False)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), package, at_load=at_load)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, at_load=at_load and not inside)


def part_of(name: str) -> str | None:
    """The part of Sfumato that a module belongs to: "methods" for sfumato.methods.daam, nothing for sfumato itself."""
    package, _, path = name.partition(".")
    if package != "sfumato" or not path:
        return None
    places = [place for place in MAY_IMPORT if f"{path}.".startswith(f"{place}.")]
    return max(places, key=len, default=path.split(".")[0])


def loaded_with(name: str) -> dict[str, str]:
    """What comes into memory with a module, each with the module that asks for it."""
    reached: dict[str, str] = {}
    waiting = [(name, name)]
    while waiting:
        here, asked_by = waiting.pop()
        if here in reached:
            continue
        reached[here] = asked_by
        if here not in ALL:
            continue
        above = here.rpartition(".")[0]
        if above:
            waiting.append((above, here))
        waiting.extend((found.target, here) for found in imports(here) if found.at_load)
    return reached


PARTS = sorted({part for name in MODULES if (part := part_of(name))})


def test_the_imports_are_read_as_python_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "example.py"
    path.write_text(
        "import torch.nn as nn\n"
        "from typing import TYPE_CHECKING\n"
        "from .store import save\n"
        "from .. import errors\n"
        "if TYPE_CHECKING:\n    import diffusers\n"
        "try:\n    import scipy\nexcept ImportError:\n    scipy = None\n"
        "def draw():\n    from matplotlib import pyplot\n"
    )
    monkeypatch.setitem(ALL, "sfumato.results.example", path)

    found = {(item.target, item.at_load) for item in imports("sfumato.results.example")}

    assert found == {
        ("torch.nn", True),
        ("typing", True),
        ("sfumato.results.store", True),
        ("sfumato.errors", True),
        ("diffusers", False),
        ("scipy", True),
        ("matplotlib", False),
    }


def test_every_part_has_its_place_in_the_order() -> None:
    unplaced = sorted(set(PARTS) - set(MAY_IMPORT))
    assert not unplaced, f"say in MAY_IMPORT what these may import: {', '.join(unplaced)}"
    order = list(TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError where the table contradicts itself
    assert set(order) == set(MAY_IMPORT)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_what_stands_below_it(part: str) -> None:
    wrong = []
    for name in MODULES:
        if part_of(name) != part:
            continue
        for found in imports(name):
            target = part_of(found.target)
            if found.target == "sfumato" or (target and target not in MAY_IMPORT[part] | {part}):
                wrong.append(f"{name} line {found.line} imports {found.target}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("part", READERS)
def test_what_reads_explanations_needs_no_torch(part: str) -> None:
    banned = HEAVY - {"matplotlib"}
    wrong = []
    for name in MODULES:
        if part_of(name) != part:
            continue
        named = {found.target.split(".")[0]: f"{name} itself" for found in imports(name)}
        named |= {target.split(".")[0]: asked_by for target, asked_by in loaded_with(name).items()}
        wrong += [f"{name} reaches {heavy} through {named[heavy]}" for heavy in sorted(banned & named.keys())]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Not for types and not inside functions either: what needs each other is one thing, or misses a third."""
    graph = {name: {item.target for item in imports(name)} & ALL.keys() for name in ALL}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert set(order) == set(ALL)


def test_the_library_knows_nothing_of_its_training() -> None:
    wrong = [
        f"{name} line {found.line} imports {found.target}"
        for name in MODULES
        for found in imports(name)
        if found.target.partition(".")[0] == TRAINING_SOURCE.name
    ]
    assert not wrong, "\n".join(wrong)


def test_names_say_what_is_inside() -> None:
    empty = sorted(name for name in ALL if name.rpartition(".")[2] in EMPTY_NAMES)
    assert not empty, f"name these for what they hold: {', '.join(empty)}"


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ALL.values()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert not long, f"split by concept what has more than {LONGEST_FILE} lines: {long}"


def test_every_library_in_use_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    offered = [one for name, extra in extras.items() if name not in {"test", "docs", "dev"} for one in extra]
    declared, optional = _libraries(project["dependencies"]), _libraries(offered)
    early = {
        f"{name} through {asked_by}"
        for name in MODULES
        if part_of(name) not in BEHIND_A_DOOR or name in BEHIND_A_DOOR.values()
        for target, asked_by in loaded_with(name).items()
        if target.split(".")[0] in optional
    }
    assert not early, f"import what only an extra installs inside functions: {sorted(early)}"
    used = {found.target.split(".")[0]: name for name in MODULES for found in imports(name)}
    unknown = {library: name for library, name in used.items() if library not in sys.stdlib_module_names}
    missing = {library: name for library, name in unknown.items() if library not in declared | optional | {"sfumato"}}
    assert not missing, f"add these to the dependencies in pyproject.toml: {missing}"


def test_the_training_is_of_the_same_version_and_needs_no_library_of_its_own() -> None:
    library = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    training = tomllib.loads((ROOT / "training" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert training["version"] == library["version"]
    assert training["dependencies"] == [f"sfumato=={library['version']}"]
    used = {found.target.split(".")[0]: name for name in TRAINING for found in imports(name)}
    known = _libraries(library["dependencies"]) | sys.stdlib_module_names | {"sfumato", "sfumato_training"}
    missing = {target: name for target, name in used.items() if target not in known}
    assert not missing, f"add these to the dependencies in pyproject.toml: {missing}"


@pytest.mark.parametrize(
    "statement",
    [
        "import sfumato",
        "import sfumato; sfumato.Request; dir(sfumato)",
        "import sys; sys.argv = ['sfumato', '--help']; from sfumato.cli import main; main()",
        "import sys; sys.argv = ['sfumato', 'explain', '--help']; from sfumato.cli import main; main()",
    ],
)
def test_a_light_start_loads_no_heavy_library(statement: str) -> None:
    script = (
        f"import sys\ntry:\n    exec({statement!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('heavy:', sorted(set({sorted(HEAVY)}) & set(sys.modules)))"
    )
    assert _output(script).splitlines()[-1] == "heavy: []"


def test_a_module_never_hides_the_public_function_of_its_name() -> None:
    # sfumato.explain and sfumato.methods are functions, and a module and a package as well: importing a submodule
    # makes Python set the parent's attribute, which would replace the function if the package did not see to it.
    script = (
        "import sfumato, types\n"
        "import sfumato.explain, sfumato.methods, sfumato.registry\n"
        "from sfumato.methods import daam\n"
        "names = ('explain', 'methods', 'load', 'wrap', 'open')\n"
        "print([name for name in names if not isinstance(getattr(sfumato, name), types.FunctionType)])"
    )
    assert _output(script).splitlines()[-1] == "[]"


def _libraries(requirements: list[str]) -> set[str]:
    import_names = {"pillow": "PIL", "scikit-image": "skimage"}
    names = (requirement.split(">")[0].split("=")[0].split("<")[0].strip() for requirement in requirements)
    return {import_names.get(name, name.replace("-", "_")) for name in names}


def _output(script: str) -> str:
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
