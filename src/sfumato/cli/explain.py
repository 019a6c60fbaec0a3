"""``sfumato explain``: one prompt in, a folder of results out."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json, signed
from sfumato.cli.request_options import parameter_of, values_of
from sfumato.cli.session import session_of
from sfumato.errors import RequestError
from sfumato.request import ABOUT, Request

if TYPE_CHECKING:
    from sfumato.models.loading import Task

IMAGE, METHOD, RESULT = "What to generate", "How to explain", "What comes out"


def explain(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(help=ABOUT["prompt"]["help"], show_default=False)] = None,
    model: Annotated[
        str,
        typer.Option(
            help="An embedded model, a folder in diffusers layout, or a hub id 'owner/name'.", rich_help_panel=IMAGE
        ),
    ] = DEFAULT_MODEL,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="An IP-Adapter that reads --reference: its safetensors file, or the folder of it. Append ,scale=0.6 "
            "for how strongly it acts and ,encoder=FOLDER for its image encoder (else the model's own, or "
            "image_encoder next to the file). May be repeated.",
            show_default=False,
            rich_help_panel=IMAGE,
        ),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What else the pipeline's call is given, such as true_cfg_scale=3.5; may be repeated.",
            show_default=False,
            rich_help_panel=IMAGE,
        ),
    ] = None,
    device: Device = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Which method; may be repeated. See: sfumato methods.",
            show_default="daam, profile or i2am",
            rich_help_panel=METHOD,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the method (METHOD.NAME=VALUE: of one of several); may be repeated. "
            "See: sfumato methods NAME.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="REGION|FILE",
            help="The part of the image that the methods follow: a region that the model names (such as eyes), or a "
            "black and white PNG. With --image: where the model paints into it.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="What a method may spend: MB that it keeps, or coalitions of a game.",
            show_default="the method's own",
            rich_help_panel=METHOD,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS|X,Y",
            help="The steps that the methods look at, such as 5,10,15; for i2am, points x,y of the image.",
            show_default="the method's own",
            rich_help_panel=METHOD,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Stop sampling once the error is this share of a map's range, such as 0.05.",
            show_default=False,
            rich_help_panel=METHOD,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder of the results.", show_default="out/PROMPT-SEED", rich_help_panel=RESULT),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
    **fields: Any,
) -> None:
    """Generate an image and show which pixels each word drove, or what another method finds.

    The folder holds image.png, words.png (all words at a glance), words/ (one overlay per word), report.html (all of
    it on one page that needs no network), summary.json and numbers.csv (the numbers) and explanation.zarr (the
    arrays). It appears when all of it is written; an earlier result of the same name is replaced.
    """
    given = values_of(fields)
    if adapter and "reference" not in given:
        raise RequestError("--adapter was given without --reference; give the picture that it reads")
    if prompt is None and method is None and not given.keys() & {"label", "reference", "invert"}:
        raise RequestError(
            "there is nothing to explain; give a prompt, such as: sfumato explain 'a red circle' (models without text "
            "take a --label, a --reference, a --method, or some of them)"
        )
    painted = mask is not None and "image" in given  # the mask says where to paint, not what to follow
    request = Request(prompt or "", **given | ({"mask": mask} if painted else {}))
    if request.strength is not None and request.image is None:
        raise RequestError("--strength was given without --image; it says how much of that image is made anew")
    target = out if out is not None else _default_folder(request)

    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_results
    from sfumato.explain import explained
    from sfumato.options import option_types, parse_arguments, parse_each
    from sfumato.registry import find
    from sfumato.report.folder import fill_folder
    from sfumato.results.joining import join
    from sfumato.writing.folders import write_folder

    usual = "i2am" if request.reference else "profile" if prompt is None else "daam"
    chosen = [find(name) for name in dict.fromkeys(method or [usual])]
    task: Task | None = None if request.image is None else "inpainting" if painted else "image-to-image"
    task = task if request.invert is None else "text-to-image"
    given_to_all = {"mask": None if painted else mask, "budget": budget, "at": at, "until": until}
    shared = [f"{name}={value}" for name, value in given_to_all.items() if value is not None]
    options = parse_each(chosen, [*(option or ()), *shared])
    for one, own in zip(chosen, options, strict=True):
        if "stream" in option_types(one):
            own.setdefault("stream", f"{target}.partial")
    configured = [one.configure(own) for one, own in zip(chosen, options, strict=True)]
    with progress_shown() as progress, write_folder(target) as folder:
        loaded = load_model(
            model, device, progress, task=task, arguments=parse_arguments(argument or ()), adapters=adapter or ()
        )
        completed = loaded.complete(request)
        for one, settings in zip(chosen, configured, strict=True):
            one.check(loaded)
            if not as_json:
                say(f"cost{f' of {one.name}' if len(chosen) > 1 else ''}: {one.cost(loaded, completed, settings)}")
        explanation = join(
            [
                explained(loaded, [completed], one, settings, progress=progress)[0]
                for one, settings in zip(chosen, configured, strict=True)
            ]
        )
        summary = fill_folder(explanation, folder, progress)
    session_of(context).stopped = f"stopped; the results are whole, in {target}"
    if as_json:
        print_json(summary | {"folder": target})
    else:
        say_results(summary)
        say()
        say(f"results in {target}: report.html shows everything on one page")


def _default_folder(request: Request) -> str:
    from sfumato.writing.slugs import slug

    return f"out/{slug(request.prompt or request.label or 'image')}-{request.seed}"


FOLLOWED_BY = {
    "prompt": ("label", "seed"),
    "model": (
        *("steps", "guidance", "negative_prompt", "size", "height", "width"),
        *("scheduler", "schedule", "images", "image", "reference"),
    ),
    "adapter": ("strength", "invert", "at"),
    "argument": ("variation",),
}
"""Where the fields of the request stand among the other parameters."""


def _parameters() -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(explain, include_extras=True)
    for name, one in inspect.signature(explain).parameters.items():
        if one.kind is not inspect.Parameter.VAR_KEYWORD:
            yield one.replace(annotation=hints[name])
        for field in FOLLOWED_BY.get(name, ()):
            yield parameter_of(field, IMAGE)


signed(explain, list(_parameters()))
