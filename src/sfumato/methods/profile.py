"""The diffusion profile: one labelled object for the whole generative process, from one generation.

Source: the thesis on an XAI interface for diffusion models, chapter 4: samples x_t, clean estimates, activations and
their maximum channel (equation 4.1.4), the attention map A_t (outputs of all attention layers, upsampled bilinearly and
summed), layer distances (4.1.10), the SSIM trajectory (4.1.8), and layer-wise gradient maps (section 4.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import BudgetExceeded, OptionError
from sfumato.generation.context import GenerationContext
from sfumato.generation.feature_layers import Layer, attention_layers, chosen, layers_of, usual_layers
from sfumato.generation.generate import generate
from sfumato.generation.recorders.activations import Activations, attention_sum
from sfumato.generation.recorders.samples import Samples, noisy_input
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.methods.masks import mask_of, on_latent
from sfumato.metrics.structure import frobenius, maximum_channel, normalised_ssim
from sfumato.models import noise
from sfumato.models.model import Model
from sfumato.models.schedulers import nearest_steps, schedule_of
from sfumato.option_values import MEGABYTES, STEPS, TIMESTEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import Meaning
from sfumato.results.streaming import Array, Node, Sink, sink_of
from sfumato.results.upscale import resized

Object = Literal["samples", "clean", "ssim", "attention", "activations", "gradients"]
OBJECTS: tuple[Object, ...] = ("samples", "clean", "ssim", "attention", "activations", "gradients")
KEPT = 10
"""About how many steps are kept unless more are asked for."""


@dataclass(frozen=True)
class ProfileOptions:
    """Options of ``profile``."""

    objects: tuple[Object, ...] = field(
        default=("samples", "clean", "ssim", "attention", "activations"),
        metadata={"help": f"what to keep: {', '.join(OBJECTS)}"},
    )
    every: int = field(default=0, metadata=STEPS | {"help": "keep every so many steps; 0 keeps about ten"})
    timesteps: tuple[int, ...] = field(
        default=(),
        metadata=TIMESTEPS | {"help": "keep the steps nearest to these timesteps instead, such as 950,700,200"},
    )
    layers: tuple[str, ...] = field(
        default=(),
        metadata={
            "pattern": "glob",
            "help": "names or globs, such as 'ups.1.*' (see: sfumato layers); the attention layers, or the blocks",
        },
    )
    mask: str | None = field(
        default=None,
        metadata={
            "disk": "mask",
            "help": "a region that the model names, or a black and white PNG: for maximum channels",
        },
    )
    budget: float = field(default=500.0, metadata=MEGABYTES | {"help": "most memory that the profile may take, in MB"})
    stream: str | None = field(
        default=None,
        metadata={"disk": "folder", "help": "write into this folder while it runs, readable if the run is killed"},
    )

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        if not self.objects:
            raise OptionError(f"objects is empty; what can be kept is: {', '.join(OBJECTS)}")
        if self.every and self.timesteps:
            raise OptionError("every and timesteps were both given; give one of them")


@dataclass
class Plan:
    """What a profile will hold, known before the run.

    Attributes:
        schedule: The run's timesteps, in order.
        kept: The steps that are kept, in order.
        layers: Whose activations or gradients are kept.
        attention: The attention layers.
        objects: What is kept of what was asked for: no attention map where there is no attention.
        nodes: Nodes of the tree, with the shapes of their arrays.
    """

    schedule: list[float]
    kept: list[int]
    layers: list[Layer]
    attention: list[Layer]
    objects: frozenset[str]
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def megabytes(self) -> float:
        """Size of all arrays."""
        return sum(array.bytes for node in self.nodes.values() for array in node.arrays.values()) / 1e6

    @cached_property
    def place(self) -> dict[int, int]:
        """The place of every kept step among them."""
        return {step: place for place, step in enumerate(self.kept)}


def _cost(model: Model, request: CompletedRequest, options: ProfileOptions) -> str:
    plan = plan_of(model, request, options)
    more = f", {2 * len(plan.kept)} calls with gradients" if "gradients" in options.objects else ""
    return (
        f"one generation ({len(plan.schedule)} denoiser calls{more}); {len(plan.kept)} steps and "
        f"{len(plan.layers)} layers kept: {plan.megabytes:.1f} MB of at most {options.budget:.3g}"
    )


@method(
    "profile",
    summary="When and where did the image come to be? Samples, activations, attention and their change, step by step",
    options=ProfileOptions,
    needs=("replay",),
    cost=_cost,
    paper="An XAI interface for diffusion models (thesis), chapter 4: the diffusion profile",
)
def profile(
    model: Model, requests: Sequence[CompletedRequest], options: ProfileOptions, progress: Progress
) -> list[Explanation]:
    """Profile every request, one generation each."""
    return [_profiled(model, request, options, progress) for request in requests]


def plan_of(model: Model, request: CompletedRequest, options: ProfileOptions) -> Plan:
    """What the profile of a completed request will hold.

    Raises:
        OptionError: A layer or a timestep does not exist, or nothing is left that could be kept.
    """
    if request.images != 1:
        raise OptionError("profile follows one image; explain each seed by itself")
    schedule = schedule_of(model, request)
    kept = _kept(model, request, options, len(schedule))
    known = layers_of(model, request)
    attention = attention_layers(model, known)
    wants_layers = {"activations", "gradients"} & set(options.objects)
    layers = (chosen(options.layers, known) if options.layers else usual_layers(model, known)) if wants_layers else []
    objects = frozenset(options.objects) - (set() if attention else {"attention"})
    if not objects:
        raise OptionError(
            f"the denoiser of {model.source.name} has no attention over the image, so there is no attention map; "
            "choose other objects, such as samples"
        )
    plan = Plan(schedule, kept, layers, attention, objects)
    plan.nodes = _nodes(model, request, plan, masked=options.mask is not None)
    return plan


def _kept(model: Model, request: CompletedRequest, options: ProfileOptions, count: int) -> list[int]:
    if options.timesteps:
        return nearest_steps(model, request, options.timesteps)
    if options.every >= count > 1:
        raise OptionError(f"every is {options.every}; this run has {count} steps, so take at most {count - 1}")
    return list(range(0, count, options.every or max(1, round(count / KEPT))))


def _nodes(model: Model, request: CompletedRequest, plan: Plan, *, masked: bool) -> dict[str, Node]:
    schedule, kept = plan.schedule, plan.kept
    trained = float(model.pipeline.scheduler.config.get("num_train_timesteps", 1000))

    def coords(steps: Sequence[int]) -> dict[str, tuple[str, Sequence[Any]]]:
        times = [schedule[step] if step < len(schedule) else 0.0 for step in steps]
        return {
            "step": ("step", list(steps)),
            "timestep": ("step", times),
            "t": ("step", [time / trained for time in times]),
        }

    def array(
        *sizes: tuple[str, int], kind: str = "float32", steps: int = len(kept), meaning: Meaning | None = None
    ) -> Array:
        attrs = {} if meaning is None else meaning.attrs
        return Array(("step", *(name for name, _ in sizes)), (steps, *(size for _, size in sizes)), kind, attrs)

    height, width = model.latent_grid(request)
    channels = model.channels
    nodes: dict[str, Node] = {}
    for name in ("samples", "clean"):
        if name in plan.objects:
            steps = [*kept, len(schedule)] if name == "samples" else kept
            count = len(steps)
            nodes[name] = Node(
                {
                    "latent": array(("latent_channel", channels), ("y", height), ("x", width), steps=count),
                    "picture": array(
                        ("row", request.height), ("column", request.width), ("channel", 3),
                        kind="uint8", steps=count,
                    ),
                },
                coords(steps),
                {"method": "profile"},
            )  # fmt: skip
    if "ssim" in plan.objects:
        steps = list(range(1, len(schedule) + 1))
        what = {"method": "profile", "about": "normalised SSIM of the sample with that of the step before"}
        curve = array(steps=len(steps), kind="float64", meaning=Meaning("curve"))
        nodes["trajectory"] = Node({"normalised_ssim": curve}, coords(steps), what)
    if "attention" in plan.objects:
        heat = array(("y", height), ("x", width), meaning=Meaning("map"))
        nodes["attention_map"] = Node({"map": heat}, coords(kept), {"method": "profile"})
    for kind in ("activations", "gradients"):
        for layer in plan.layers if kind in plan.objects else ():
            arrays = {
                "map": array(("channel", layer.channels), ("y", layer.height), ("x", layer.width)),
                "max_channel": array(kind="int32"),
                "distance": array(kind="float64"),
            }
            if masked:
                arrays["max_channel_in_mask"] = array(kind="int32")
            nodes[f"{kind}/{layer.name}"] = Node(arrays, coords(kept), {"method": "profile", "layer": layer.name})
    return nodes


def _profiled(model: Model, request: CompletedRequest, options: ProfileOptions, progress: Progress) -> Explanation:
    plan = plan_of(model, request, options)
    if plan.megabytes > options.budget:
        largest = max(plan.nodes, key=lambda name: sum(array.bytes for array in plan.nodes[name].arrays.values()))
        raise BudgetExceeded(
            f"the profile needs {plan.megabytes:.3g} MB; the budget is {options.budget:.3g} MB; the largest part is "
            f"{largest}: keep fewer steps (every, timesteps), layers or objects, or raise the budget"
        )
    mask = None
    if options.mask is not None:
        mask = mask_of(model, request, options.mask)
    elif "gradients" in options.objects:
        raise OptionError("gradients are those of a part of the image; give it: mask=REGION or mask=FILE.png")
    about = {"request": request.to_dict(), "provenance": {"method": "profile", "model": model.source.name}}
    with sink_of(options.stream, plan.nodes, about) as sink:
        recorder = _Recorder(plan, sink, mask)
        layers = [layer.name for layer in {*plan.layers, *plan.attention}] if recorder.watches_layers else []
        watch = Activations(layers, recorder.on_layer, set(plan.kept))
        wants = "gradients" in options.objects
        trace = generate(
            model, request, attachments=[watch, recorder], record=set(plan.kept) if wants else False, progress=progress
        )
        recorder.finish(trace)
        if wants:
            _gradients(trace, plan, sink, mask, progress)
        nodes = dict(sink.tree())
        if mask is not None:
            nodes["mask"] = xr.Dataset({"mask": (("y", "x"), mask)}, attrs={"name": str(options.mask)})
        return trace.explanation(0, nodes)


class _Recorder:
    """Fills samples, clean estimates, trajectory, attention and activations while the generation runs."""

    def __init__(self, plan: Plan, sink: Sink, mask: NDArray[np.bool_] | None) -> None:
        self._plan = plan
        self._objects = plan.objects
        self._sink = sink
        self._mask = mask
        self._names = {layer.name for layer in plan.layers} if "activations" in self._objects else set()
        self._attention = {layer.name for layer in plan.attention} if "attention" in self._objects else set()
        self._previous: NDArray[Any] | None = None
        self._earlier: dict[str, NDArray[Any]] = {}
        self._sum: torch.Tensor | None = None

    @property
    def watches_layers(self) -> bool:
        """Whether any layer's output is needed."""
        return bool(self._names or self._attention)

    def install(self, run: GenerationContext) -> None:
        """Register hooks around the denoiser; install after the watcher of layers."""
        Samples(partial(self._sampled, run.model)).install(run)
        run.hooks.after(run.model.denoiser, lambda module, args, kwargs, output: self._after(run, args, kwargs, output))

    def on_layer(self, name: str, step: int, maps: torch.Tensor) -> None:
        """Take the output of a layer at a kept step."""
        if name in self._names:
            write_layer(self._sink, f"activations/{name}", self._plan.place[step], maps[0], self._mask, self._earlier)
        if name in self._attention:
            _, height, width = self._plan.nodes["attention_map"].arrays["map"].shape
            scaled = attention_sum(maps[:1], (height, width))[0]
            self._sum = scaled if self._sum is None else self._sum + scaled

    def finish(self, trace: Trace) -> None:
        """Take the final latent."""
        self._sampled(trace.model, len(self._plan.schedule), trace.latents[:1])

    def _sampled(self, model: Model, step: int, sample: torch.Tensor) -> None:
        values = sample[0].float().cpu().numpy()
        if "ssim" in self._objects:
            if self._previous is not None:
                self._sink.write(
                    "trajectory", "normalised_ssim", step - 1, np.asarray(normalised_ssim(values, self._previous))
                )
            self._previous = values
        last = step == len(self._plan.schedule)
        if last and "ssim" in self._objects:
            self._sink.commit("trajectory", step)
        if "samples" in self._objects and (last or step in self._plan.place):
            place = len(self._plan.kept) if last else self._plan.place[step]
            self._keep(model, "samples", place, sample)

    def _after(self, run: GenerationContext, args: Any, kwargs: Any, output: Any) -> None:
        step = run.clock.step
        if step not in self._plan.place:
            return
        place = self._plan.place[step]
        if "clean" in self._objects:
            rows = run.branches.rows("conditional", run.items)
            given, made = noisy_input(args, kwargs)[rows], output[0][rows]
            if "unconditional" in run.branches.names:
                plain = output[0][run.branches.rows("unconditional", run.items)]
                made = noise.guided(made, plain, run.requests[0].guidance)
            channels = run.model.channels
            estimate = run.model.clean(made[:, :channels], given[:, :channels], run.clock.timestep)
            self._keep(run.model, "clean", place, estimate)
        if "attention" in self._objects and self._sum is not None:
            self._sink.write("attention_map", "map", place, self._sum.cpu().numpy())
            self._sink.commit("attention_map", place + 1)
            self._sum = None
        for name in self._names:
            self._sink.commit(f"activations/{name}", place + 1)
        if "ssim" in self._objects and step:
            self._sink.commit("trajectory", step)

    def _keep(self, model: Model, node: str, place: int, latent: torch.Tensor) -> None:
        with torch.no_grad():
            image = model.decode(latent.to(next(model.denoiser.parameters()).dtype))[0].float()
        picture = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        self._sink.write(node, "latent", place, latent[0].float().cpu().numpy())
        self._sink.write(node, "picture", place, picture)
        self._sink.commit(node, place + 1)


def write_layer(
    sink: Sink,
    node: str,
    place: int,
    maps: torch.Tensor,
    mask: NDArray[np.bool_] | None,
    earlier: dict[str, NDArray[Any]],
) -> None:
    """Write one layer's maps (channel, y, x), their maximum channels, and their distance to those kept before."""
    values = maps.float().cpu().numpy()
    sink.write(node, "map", place, values)
    sink.write(node, "max_channel", place, np.asarray(maximum_channel(values)))
    if mask is not None:
        weights = resized(mask, (values.shape[1], values.shape[2]))
        sink.write(node, "max_channel_in_mask", place, np.asarray(maximum_channel(values, weights)))
    before = earlier.get(node)
    sink.write(node, "distance", place, np.asarray(np.nan if before is None else frobenius(values, before)))
    earlier[node] = values


def _gradients(trace: Trace, plan: Plan, sink: Sink, mask: NDArray[np.bool_] | None, progress: Progress) -> None:
    """Layer-wise gradient maps of the masked part of the next sample, at every kept step, by one backward pass each."""
    assert mask is not None
    inside = torch.from_numpy(on_latent(mask, trace.model, trace.requests[0]))
    earlier: dict[str, NDArray[Any]] = {}
    names = [layer.name for layer in plan.layers]
    for place, step in enumerate(plan.kept):
        stepped = step_with_gradients(trace, step, layers=names)
        _, *found = region_gradients(stepped, inside)
        for name, gradient in zip(stepped.features, found, strict=True):
            write_layer(sink, f"gradients/{name}", place, gradient[0], mask, earlier)
            sink.commit(f"gradients/{name}", place + 1)
        progress("gradients", place + 1, len(plan.kept))
