"""Loading a model for a command: with our progress, without the bars of other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sfumato.progress import Progress

if TYPE_CHECKING:
    from sfumato.models.loading import Task
    from sfumato.models.model import Model


def load_model(
    name: str,
    device: str | None,
    progress: Progress,
    *,
    task: Task | None = None,
    arguments: Mapping[str, Any] | None = None,
    adapters: Sequence[str] = (),
) -> Model:
    """The model of a name, a folder or a hub id, with adapters as the command line has them; see ``sfumato.load``."""
    progress("loading the model", 0, 1)
    from sfumato.models import loading
    from sfumato.models.adapter_files import Adapter
    from sfumato.models.bars import other_bars_hidden

    with other_bars_hidden():
        chosen = [Adapter.parse(one) for one in adapters]
        model = loading.load(name, device=device, task=task, arguments=arguments, adapters=chosen)
    progress("loading the model", 1, 1)
    return model
