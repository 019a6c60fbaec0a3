"""Loading a model for a command: with our progress, without the bars of other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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

    with _other_bars_hidden():
        chosen = [Adapter.parse(one) for one in adapters]
        model = loading.load(name, device=device, task=task, arguments=arguments, adapters=chosen)
    progress("loading the model", 1, 1)
    return model


@contextmanager
def _other_bars_hidden() -> Iterator[None]:
    """Without the progress bars of diffusers and transformers, then as it was."""
    import diffusers.utils.logging
    import transformers.utils.logging

    with ExitStack() as stack:
        logs: list[Any] = [diffusers.utils.logging, transformers.utils.logging]
        for log in logs:
            if log.is_progress_bar_enabled():
                log.disable_progress_bar()
                stack.callback(log.enable_progress_bar)
        yield
