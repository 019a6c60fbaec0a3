"""``sfumato run``: one command for each task, made from its options, and commands for the folders of runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sfumato.cli.console import note, print_json, print_table, progress_shown, say
from sfumato.cli.listing import say_tasks
from sfumato.cli.parameters import (
    DEFAULT_MODEL,
    Debug,
    Device,
    Json,
    ModelName,
    add,
    count,
    help_when_alone,
    signed,
)
from sfumato.cli.request_options import parameter_of as parameter_of_field
from sfumato.cli.request_options import values_of
from sfumato.cli.session import session_of
from sfumato.cli.task_options import options_of, parameter_of, parsed_shard, prompts_option, read_options, read_prompts
from sfumato.errors import OptionError, UnknownTask
from sfumato.option_values import BATCH

if TYPE_CHECKING:
    from sfumato.runs.execute import Report, Status
    from sfumato.runs.executors.executor import Executor
    from sfumato.runs.opened import Run
    from sfumato.runs.task import Task

WITHOUT_RESULT = 3
"""The exit code of a run of which some rows have no result."""
RUN, REQUEST = "The run", "The images"


class _Tasks(TyperGroup):
    """The commands of the folders, and one for each task; tasks are imported when one is named or all are listed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._own: dict[str, Any] = {}
        self._found: dict[str, Any] = {}
        self._all: dict[str, Any] | None = None
        super().__init__(*args, **kwargs)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """All commands by name, those of tasks first."""
        if self._all is None:
            from sfumato.runs.task import tasks

            self._all = {one.name: _command(one) for one in tasks()} | self._own
        return self._all

    @commands.setter
    def commands(self, value: MutableMapping[str, Any]) -> None:
        self._own = dict(value)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; of tasks only the one that is asked for is imported."""
        if self._all is None and cmd_name not in (self._own | self._found):
            from sfumato.runs.task import find_task

            with suppress(UnknownTask):
                self._found[cmd_name] = _command(find_task(cmd_name))
        return (self._found | self._own).get(cmd_name) or super().get_command(ctx, cmd_name)


group = typer.Typer(
    cls=_Tasks,
    help="Ask one question of many requests. The folder is the record: the same command goes on after a stop.",
    rich_markup_mode="rich",
)

Folder = Annotated[str, typer.Argument(help="Folder of a run.", show_default=False)]
Workers = Annotated[
    int, count("Processes of this machine, or actors of Ray, each with a model of its own.", rich_help_panel=RUN)
]
ExecutorName = Annotated[str, typer.Option(help="Where to measure: local (this machine) or ray.", rich_help_panel=RUN)]
Address = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster that is there.", show_default="a cluster of its own here", rich_help_panel=RUN),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        min=0, max=64, help="GPUs of each worker of Ray.", show_default="1 where there are any", rich_help_panel=RUN
    ),
]


@group.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    listed: Annotated[bool, typer.Option("--list", help="List the tasks: question, paper, cost and needs.")] = False,
    as_json: Json = False,
) -> None:
    """Show the help when no command is named."""
    if not listed:
        help_when_alone(context)
        return
    say_tasks(as_json)
    raise typer.Exit(0)


def status(folder: Folder, as_json: Json = False, debug: Debug = False) -> None:
    """Show how far a run is, also while it runs."""
    from sfumato.runs.opened import open_run

    run = open_run(folder)
    counts = run.counts
    found = {"task": run.settings["task"], "model": run.settings["model"]} | _counted(counts)
    if as_json:
        print_json(found | {"folder": folder, "settings": run.settings})
        return
    print_table(list(found), [[str(value) for value in found.values()]], right=list(found)[2:])
    if counts.failed or counts.invalid:
        say(f"{folder}/failed.csv has the reasons once the run has ended")


def retry(
    context: typer.Context,
    folder: Folder,
    workers: Workers = 1,
    executor: ExecutorName = "local",
    address: Address = None,
    gpus_per_worker: Gpus = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the items of a run that are open or have failed; its prompts, options and model stand in the folder."""
    from sfumato.runs.running import resume_run

    session_of(context).stopped = _stopped(folder)
    chosen = executor_of(executor, workers, address, gpus_per_worker)
    with _reported(as_json) as report:
        run: Run = resume_run(
            folder, workers=workers, executor=chosen, retry=True, report=report, costs=None if as_json else _say_costs
        )
    _say_run(run, folder, as_json)


def table(folder: Folder, as_json: Json = False, debug: Debug = False) -> None:
    """Make the table, the maps and the finding of a run anew from its records, without a model."""
    from sfumato.runs.running import conclude_run

    _say_run(conclude_run(folder), folder, as_json)


def merge(
    parts: Annotated[list[str], typer.Argument(help="Folders of the parts.", show_default=False)],
    out: Annotated[str, typer.Option(help="Folder of the whole run.", show_default=False)],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put parts of a run together that were measured apart by --shard."""
    from sfumato.runs.merging import merge as merged
    from sfumato.runs.opened import Run

    _say_run(Run(merged(parts, out)), out, as_json)


def executor_of(name: str, workers: int, address: str | None, gpus: float | None) -> Executor | None:
    """The executor of a name; None for this machine.

    Raises:
        OptionError: There is none of this name, or what only Ray takes was given without it.
    """
    if name == "ray":
        from sfumato.runs.executors.ray import Ray

        return Ray(workers, address, gpus)
    if name != "local":
        raise OptionError(f"--executor is {name!r}; choose from: local, ray")
    if address is not None or gpus is not None:
        raise OptionError("--address and --gpus-per-worker are for a cluster of Ray; give --executor ray as well")
    return None


def _command(task: Task) -> Any:
    """The command of a task: what all runs take, and its own options."""
    own = {option.name: parameter_of(option, kind) for option, kind in options_of(task)}
    hints = typing.get_type_hints(_common, include_extras=True)
    common = {name: one.replace(annotation=hints[name]) for name, one in inspect.signature(_common).parameters.items()}
    common["model"] = common["model"].replace(default=task.model)
    if task.prompts is None:
        del common["prompts"]
    else:
        common["prompts"] = common["prompts"].replace(annotation=prompts_option(hints["prompts"], task.prompts))
        common |= _of_requests()
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    def command(context: typer.Context, **given: Any) -> None:
        chosen = {name: given.pop(name) for name in own}
        _run(context, task, read_options(task, chosen), **given)

    signed(command, [context, *own.values(), *(one for name, one in common.items() if name not in own)])
    command.__doc__ = _help(task)
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    add(app, task.name, command, *_examples(task))
    return typer.main.get_command(app)


def _common(
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NUMBER",
            help="Text, CSV, TSV, JSON lines or Parquet with a column prompt; or how many of {captions}.",
            rich_help_panel=RUN,
        ),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[
        str | None, typer.Option(help="Folder of the run.", show_default="runs/TASK", rich_help_panel=RUN)
    ] = None,
    batch: Annotated[
        int,
        typer.Option(
            min=BATCH["least"], max=BATCH["most"], help="Items measured together, at most a shard.", rich_help_panel=RUN
        ),
    ] = 8,
    shard_size: Annotated[
        int | None,
        count(
            "Items of a shard, which is what a kill can cost.",
            show_default="by task, else 32 or a batch",
            rich_help_panel=RUN,
        ),
    ] = None,
    workers: Workers = 1,
    executor: ExecutorName = "local",
    address: Address = None,
    gpus_per_worker: Gpus = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Measure part K of N alone, into a folder of its own; see: sfumato run merge.",
            rich_help_panel=RUN,
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also measure again what has failed.", rich_help_panel=RUN)
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Begin anew in the folder of a run; its records are lost.", rich_help_panel=RUN),
    ] = False,
    as_new: Annotated[
        bool,
        typer.Option("--as-new", help="Leave a run of other settings, take the next free name.", rich_help_panel=RUN),
    ] = False,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The parameters that the commands of all tasks have; `prompts` only where they are read."""


def _of_requests() -> dict[str, inspect.Parameter]:
    """The parameters that the requests of all prompts share."""
    first = parameter_of_field("seed", REQUEST, "Of the first row without a seed; row i has --seed + i.", bounded=True)
    others = ("steps", "guidance", "size", "scheduler")
    return {one.name: one for one in (first, *(parameter_of_field(name, REQUEST, bounded=True) for name in others))}


def _run(
    context: typer.Context,
    task: Task,
    options: dict[str, Any],
    *,
    model: str,
    out: str | None,
    batch: int,
    shard_size: int | None,
    workers: int,
    executor: str,
    address: str | None,
    gpus_per_worker: float | None,
    shard: str | None,
    retry: bool,
    restart: bool,
    as_new: bool,
    device: str | None,
    as_json: bool,
    debug: bool,
    prompts: str | None = None,
    **fields: Any,
) -> None:
    from sfumato.runs.running import run

    if restart and as_new:
        raise OptionError("--restart and --as-new exclude each other; give one of them")
    part = parsed_shard(shard)
    target = out or f"runs/{task.name}"
    target += f"-{part[0]:0{len(str(part[1]))}}-of-{part[1]}" if part[1] > 1 and out is None else ""
    session_of(context).stopped = _stopped(target)
    chosen = executor_of(executor, workers, address, gpus_per_worker)
    with _reported(as_json) as report:
        found = run(
            task.name,
            model,
            out=target,
            prompts=read_prompts(prompts),
            common=values_of(fields),
            batch=batch,
            shard_size=shard_size,
            workers=workers,
            executor=chosen,
            part=part,
            retry=retry,
            restart=restart,
            as_new=as_new,
            device=device,
            report=report,
            costs=None if as_json else _say_costs,
            **options,
        )
    _say_run(found, str(found.folder) if as_new else target, as_json)


def _say_costs(lines: Sequence[str]) -> None:
    for line in lines:
        say(f"cost: {line}")


def _say_run(run: Run, named: str, as_json: bool) -> None:
    """Print what a run has found and what it has not; rows without a result are exit code 3."""
    counts = run.counts
    finding = run.finding if counts.ok else None
    if as_json:
        print_json({"state": "ended", "folder": named, "finding": finding} | _counted(counts), line=True)
    else:
        if finding is not None:
            _say_finding(finding, run)
        say(f"{counts.ok:,} of {counts.total:,} rows have a result, in {named}: items.parquet has a row for each")
        for name in (finding or {}).get("files", ()):
            say(f"{named}/{name} belongs to the finding")
    if counts.open:
        note(f"{counts.open:,} rows are open; the same command goes on with them, and `sfumato run merge` joins parts")
    if counts.failed or counts.invalid:
        note(
            f"{counts.failed:,} rows failed and {counts.invalid:,} are invalid: {named}/failed.csv says why"
            + (f"; try the failed ones again with: sfumato run retry {named}" if counts.failed else "")
        )
        raise typer.Exit(WITHOUT_RESULT)


def _say_finding(found: dict[str, Any], run: Run) -> None:
    from sfumato.cli.tables import say_finding
    from sfumato.runs.finding import Finding

    say_finding(Finding.from_json(found), f"{found['name']} on {run.settings['model']}")
    say()


@contextmanager
def _reported(as_json: bool) -> Iterator[Report]:
    """Report a run: as JSON lines with the rate and the failures, or as a bar."""
    if as_json:

        def line(status: Status) -> None:
            rate = {"per_second": status.rate, "seconds_left": status.remaining}
            print_json({"state": "running"} | _counted(status.counts) | rate, line=True)

        yield line
        return
    with progress_shown(news=True) as progress:

        def bar(status: Status) -> None:
            counts = status.counts
            progress("items", counts.total - counts.open, counts.total)

        yield bar


def _counted(counts: Any) -> dict[str, int]:
    return {"ok": counts.ok, "failed": counts.failed, "invalid": counts.invalid, "open": counts.open}


def _stopped(folder: str) -> str:
    return f"stopped; what is measured is kept in {folder}, and the same command goes on"


def _help(task: Task) -> str:
    claim = f"\n\nIt tests a claim of {task.claim.paper}: {task.claim.text}" if task.claim else ""
    needs = f"\n\nIt needs a model with: {', '.join(sorted(task.needs))}." if task.needs else ""
    return f"{task.question}{claim}{needs}"


def _examples(task: Task) -> Iterator[str]:
    if task.prompts is None:
        yield f"sfumato run {task.name}"
        return
    yield f"sfumato run {task.name} --prompts prompts.csv --model my-model --out runs/mine --workers 2"
    if task.prompts.usual:
        yield f"sfumato run {task.name}"


add(group, "status", status, "sfumato run status runs/first", "sfumato run status runs/first --json")
add(group, "retry", retry, "sfumato run retry runs/first", "sfumato run retry runs/first --workers 4")
add(group, "table", table, "sfumato run table runs/first")
add(group, "merge", merge, "sfumato run merge runs/cats-1-of-2 runs/cats-2-of-2 --out runs/cats")
