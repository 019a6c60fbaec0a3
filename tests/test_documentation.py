"""The documentation is true: its Python runs, its commands exist, and every method has its page and its row."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "sfumato"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "training/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(
    r"^(?P<indent>[ ]*)```(?P<mark>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
RUNNABLE = "python run"


def blocks(page: Path, mark: str) -> list[str]:
    """The bodies of the fenced blocks with this mark, without their indentation."""
    found = []
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["mark"].strip() == mark:
            found.append(re.sub(rf"^{fence['indent']}", "", fence["body"], flags=re.MULTILINE))
    return found


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every call of sfumato in the shell blocks of a page."""
    for block in [*blocks(page, "bash"), *blocks(page, "console"), *blocks(page, "sh")]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0].rpartition("/")[2] == "sfumato":
                yield words[1:]


def parse(arguments: list[str]) -> None:
    """Walk down to the command that is meant and parse its options; nothing is run."""
    import typer

    from sfumato.cli.app import app

    command: Any = typer.main.get_command(app)
    context = command.make_context("sfumato", [], resilient_parsing=True)
    rest = list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name!r}; there are: {', '.join(command.commands)}"
        command = command.commands[name]
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    context.resilient_parsing = False  # now a wrong option counts
    if "--help" not in rest:
        command.make_parser(context).parse_args(rest)


def page_name(page: Path) -> str:
    """Name of a page in the report of a test."""
    return str(page.relative_to(ROOT))


RUN_PAGES = [page for page in PAGES if page.exists() and blocks(page, RUNNABLE)]
COMMANDS = [(page, arguments) for page in PAGES if page.exists() for arguments in commands(page)]
EXAMPLE = re.compile(r"^ *>>> (?!.*\+SKIP)", re.MULTILINE)
EXAMPLES = sorted(path for path in SOURCE.rglob("*.py") if EXAMPLE.search(path.read_text(encoding="utf-8")))


def test_there_is_something_to_check() -> None:
    assert {page_name(page) for page in RUN_PAGES} >= {"README.md", "docs/tutorial.md"}
    assert len(COMMANDS) >= len(PAGES) // 2
    assert EXAMPLES


@pytest.mark.parametrize("page", RUN_PAGES, ids=page_name)
def test_python_in_the_documentation_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, RUNNABLE), start=1):
        exec(compile(block, f"{page_name(page)}, block {number}", "exec"), names)
    assert any("sfumato" in block for block in blocks(page, RUNNABLE))


@pytest.mark.parametrize(
    ("page", "arguments"), COMMANDS, ids=lambda value: page_name(value) if value in PAGES else None
)
def test_a_command_in_the_documentation_exists(page: Path, arguments: list[str]) -> None:
    from typer.exceptions import TyperException

    try:
        parse(arguments)
    except TyperException as error:
        pytest.fail(f"{page_name(page)}: sfumato {shlex.join(arguments)}: {error.format_message()}")
    assert arguments


@pytest.mark.parametrize("wrong", [["explian", "a red circle"], ["explain", "a red circle", "--sede", "7"]])
def test_a_command_that_does_not_exist_is_noticed(wrong: list[str]) -> None:
    from typer.exceptions import TyperException

    with pytest.raises((TyperException, AssertionError)):
        parse(wrong)


@pytest.mark.parametrize("path", EXAMPLES, ids=page_name)
def test_examples_in_docstrings_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = ("sfumato", *path.relative_to(SOURCE).with_suffix("").parts)
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


def test_every_method_has_a_page_in_the_navigation_and_a_row_in_the_readme() -> None:
    import sfumato

    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    answers = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it answers")[2].partition("\n## ")[0]
    rows = [line for line in answers.splitlines() if line.startswith("|")]
    for method in sfumato.methods():
        page = f"methods/{method.name}.md"
        assert (ROOT / "docs" / page).is_file(), f"write docs/{page}"
        assert page in navigation, f"name {page} in mkdocs.yml"
        assert any(re.search(rf"\b{re.escape(method.name)}\b", row, re.IGNORECASE) for row in rows), (
            f"add a row for {method.name} to the table in README.md"
        )


def test_every_task_stands_in_the_module_of_its_name_and_in_the_documentation() -> None:
    from importlib.util import find_spec

    import sfumato

    written = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "command-line.md")
    for task in sfumato.tasks():
        if type(task.parts).__module__.startswith("sfumato."):
            assert find_spec(f"sfumato.tasks.{task.name}"), task.name
            named = re.search(rf"(?:sfumato run |^#+ |`){task.name}\b", written, re.MULTILINE)
            assert named, f"say in docs/studies.md, experiments.md or runs.md what came out of `{task.name}`"


def runs_on(page: str) -> dict[str, tuple[str, str]]:
    """By method, what it needs and where it runs, as the generated table of a page has it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.partition("<!-- table of methods: make pages -->")[2].partition(
        "<!-- end of the table of methods -->"
    )[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "](" in line]
    return {re.sub(r"\W", "", name.partition("]")[0]): (needs, pipelines) for name, needs, pipelines in rows}


@pytest.mark.parametrize("page", ["README.md", "docs/pipelines.md"])
def test_the_table_of_methods_is_what_the_registry_and_a_model_say(page: str) -> None:
    # one model here; `make pages-fresh` compares the whole table
    import sfumato
    from docs.tooling.capabilities import needs
    from tests.families import family

    model = family("Flux dev").wrapped()
    rows = runs_on(page)
    assert set(rows) == {method.name for method in sfumato.methods()}, "run: make pages"
    for method in sfumato.methods():
        said, pipelines = rows[method.name]
        assert said == needs(method)
        runs = bool(re.search(r"\bFlux\b", pipelines)) != pipelines.startswith("every pipeline")
        assert runs == (not method.missing(model)), f"{page} is wrong about {method.name} on Flux; run: make pages"


def test_pipelines_are_listed_by_kind_or_by_exception() -> None:
    import sfumato
    from docs.tooling.capabilities import Fit, methods_of, pipelines_of

    some, most = frozenset({"daam"}), frozenset({"daam", "ovam"})
    fits = [
        Fit("Flux, inpainting", "flux", some),
        Fit("Flux dev", "flux", most),
        Fit("Flux", "flux", some),
        Fit("Sana", "sana", some | {"lime"}),
        Fit("Sana XL", "sana-xl", some | {"shapley"}),
        Fit("DDPM", "pixel", frozenset({"lime", "profile"})),
    ]
    assert pipelines_of("daam", fits) == "every pipeline but DDPM"
    assert pipelines_of("ovam", fits) == "Flux (dev only)"
    assert pipelines_of("shapley", fits) == "Sana XL"
    assert pipelines_of("lime", fits) == "Sana, DDPM"
    assert pipelines_of("segments", fits) == "no pipeline of these"
    assert pipelines_of("daam", fits[:3]) == "every pipeline"
    fits[0] = Fit("Flux, inpainting", "flux", most)
    assert pipelines_of("ovam", fits) == "Flux (not plain)"
    assert methods_of(fits[1]) == "`daam`, `ovam`"
    every = frozenset(method.name for method in sfumato.methods())
    assert methods_of(Fit("x", "x", every)) == "all"
    assert methods_of(Fit("x", "x", every - {"lime"})) == "all but `lime`"


def test_every_feature_is_described() -> None:
    import sfumato
    from sfumato.models.families import LATENT
    from sfumato.models.model import FEATURES

    needed = {one for method in sfumato.methods() for need in method.needs for one in need.split(" or ")}
    had = {one for family, task in LATENT.values() for one in family.features | task.features}
    assert needed | had <= set(FEATURES)


def test_every_option_of_a_method_is_on_its_page() -> None:
    from dataclasses import fields

    import sfumato

    for method in sfumato.methods():
        file = ROOT / "docs" / "methods" / f"{method.name}.md"
        assert file.is_file(), f"write docs/methods/{method.name}.md"
        page = file.read_text(encoding="utf-8")
        missing = [option.name for option in fields(method.options) if f"`{option.name}`" not in page]
        assert not missing, f"docs/methods/{method.name}.md says nothing of: {', '.join(missing)}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_that_exist(name: str) -> None:
    # mkdocs checks the links of the pages in docs/; these three lie outside
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (ROOT / target).exists()]
    assert not missing, f"{name} links to what is not there: {', '.join(missing)}"


def test_the_readme_shows_its_two_commands_and_its_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)|<img[^>]* src=\"([^\"]+)\"", text)
    local = [ROOT / (a or b) for a, b in pictures if not (a or b).startswith("http")]
    assert local
    assert all(picture.is_file() for picture in local), local
