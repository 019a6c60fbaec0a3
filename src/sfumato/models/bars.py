"""The progress bars of diffusers and transformers, where others than they report the progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def other_bars_hidden() -> Iterator[None]:
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
