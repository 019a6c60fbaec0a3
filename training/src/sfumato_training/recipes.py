"""What can be trained, and how a training runs: stage after stage, each going on from its last checkpoint."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.errors import TrainingError, Unreadable
from sfumato.reading import read_json
from sfumato.writing.files import write_text
from sfumato.writing.folders import remove_folder
from sfumato.writing.locks import alone
from sfumato.writing.records import entries, refuse_foreign
from sfumato.writing.stages import sweep
from sfumato_training import settings
from sfumato_training.progress import Progress, logging_to

CONFIGS = Path(__file__).parent / "configs"
CONFIG = "config.json"
_WRITTEN_BY_STAGES = re.compile(
    r"step-[0-9]{6,}/(tensors\.safetensors|state\.json)"
    r"|((images|labels|pictures|masks|class_maps)\.npy|captions\.txt|data\.json)(\.part)?|masks\.part\.npy"
)


@dataclass(frozen=True)
class Recipe:
    """How one embedded model is trained; functions are named as "module:function" and imported when they are called.

    Attributes:
        name: Of the model.
        config: Dataclass of the settings, a `Whole` with one field for each stage.
        data: Makes the data: (settings of the stage, folder, progress).
        trained: Trains each further stage, in the order of a full training: (work). The last one makes the model.
        write: Writes the model: (config, work folder, folder of the weights, what its card tells) to its place.
        generates: Whether it is a model of images, for `sfumato.load`.
    """

    name: str
    config: type
    data: str
    trained: Mapping[str, str]
    write: str
    generates: bool = True

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of all stages, in the order of a full training."""
        return ("data", *self.trained)

    @property
    def file(self) -> Path:
        """The settings of the shipped model."""
        return CONFIGS / f"{self.name}.toml"

    def load(self, path: Path | None = None) -> Any:
        """The settings of a TOML file, or of the shipped model.

        Raises:
            TrainingError: The file cannot be read, has an unknown name or a value of the wrong type.
        """
        return settings.build(self.config, settings.read(path or self.file))

    def of(self, out: Path) -> Any:
        """The settings that a work folder was trained with.

        Raises:
            TrainingError: The folder is no work folder.
        """
        try:
            values = read_json(out / CONFIG)
        except Unreadable as error:
            raise TrainingError(
                f"{out} is no work folder of a training ({error.reason}); run `sfumato train {self.name}` first"
            ) from error
        return settings.build(self.config, values)

    def run(self, stage: str, config: Any, out: Path, progress: Progress, *, resume: bool = True) -> None:
        """Run a stage; each needs those before it.

        Raises:
            TrainingError: One before it has not run, or it cannot start or go on.
        """
        if stage == "data":
            _function(self.data)(config.data, out / "data", progress)
            return
        from sfumato_training.trainer import Work

        _function(self.trained[stage])(Work(config, out, progress, resume))

    def export(
        self,
        out: Path,
        weights: Path | None = None,
        *,
        machine: str = "2 CPU cores",
        took: str = "",
        quality: Mapping[str, Any] | None = None,
        remarks: str = "",
    ) -> Path:
        """Write the newest checkpoint in half precision, with a card.

        Args:
            out: The work folder of the training.
            weights: Where the folder of the model goes; by default among the shipped ones.
            machine: What the training ran on, for the card.
            took: How long, such as "2.5 hours".
            quality: Measured numbers by name; shares from 0 to 1.
            remarks: What else a reader of the card should know of the training, such as settings changed on the way.

        Returns:
            The folder of the model.

        Raises:
            TrainingError: A stage is missing.
            StoreError: The folder cannot be written, or is too large to ship.
        """
        from sfumato_training.publishing import WEIGHTS, Told

        config = self.of(out)
        told = Told(self.name, config == self.load(), machine, took, quality or {}, remarks)
        written: Path = _function(self.write)(config, out, weights or WEIGHTS, told)
        return written


def _function(name: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"sfumato_training.{module}"), function)
    return found


def names() -> tuple[str, ...]:
    """What can be trained."""
    return tuple(sorted(path.stem for path in CONFIGS.glob("*.toml")))


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        TrainingError: There is none; the message lists all.
    """
    if name not in names():
        raise TrainingError(f"there is no training {name!r}; choose from: {', '.join(names())}")
    found: Recipe = importlib.import_module(f"sfumato_training.{name.replace('-', '_')}.recipe").RECIPE
    return found


def train(
    name: str,
    config: Any,
    out: Path,
    *,
    stages: Sequence[str] | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> None:
    """Train an embedded model, or go on where an earlier call stopped.

    Args:
        name: Which one.
        config: Its settings.
        out: The work folder: data, checkpoints, samples and the log (log.jsonl). Two calls with different stages may
            share the folder at the same time.
        stages: Which stages to run, in this order; all.
        resume: Go on from the last checkpoint of each stage; false starts the stages over.
        progress: Told every step; by default a bar on a terminal, else a line now and then.

    Raises:
        TrainingError: A stage does not exist, cannot start, resume or go on, or the folder holds something else.
        StoreError: The folder cannot be written.
    """
    how = recipe(name)
    chosen = how.stages if stages is None else tuple(stages)
    if unknown := [stage for stage in chosen if stage not in how.stages]:
        raise TrainingError(f"{unknown[0]!r} is no stage; the stages are: {', '.join(how.stages)}")
    _refuse_other_folder(out)
    write_text(out / CONFIG, json.dumps(dataclasses.asdict(config), indent=1) + "\n")

    def run_all(told: Progress) -> None:
        for stage in chosen:
            with alone(out / f".{stage}.lock") as held:
                if not held:
                    raise TrainingError(
                        f"another training runs the stage {stage!r} in {out}; wait, or take another --out"
                    )
                if not resume:
                    remove_folder(out / stage, _check_stage)
                how.run(stage, config, out, told, resume=resume)

    if progress is not None:
        run_all(progress)
        return
    with logging_to(out / "log.jsonl") as log:
        run_all(log)


def _refuse_other_folder(out: Path) -> None:
    """Raise unless a folder is new, empty, or was made by a training: files in it will be replaced."""
    sweep(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        found = read_json(out / CONFIG)
    except Unreadable:
        found = None
    if not isinstance(found, dict) or not {"name", "seed", "device"} <= found.keys():
        raise TrainingError(
            f"{out} is not empty and no work folder of a training (it has no {CONFIG} of one); "
            "choose another folder with --out"
        )


def _check_stage(folder: Path, named: str) -> None:
    """Raise a `StoreError` if a stage's folder holds what no stage writes."""
    refuse_foreign(named, [name for name in entries(folder) if not _WRITTEN_BY_STAGES.fullmatch(name)])
