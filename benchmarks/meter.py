"""What one run costs: time, and the peak of memory above what was held before it."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


@dataclass
class Cost:
    """The cost of one run.

    Attributes:
        seconds: CPU time of the whole process on a CPU; wall time between two synchronisations on a GPU.
        peak_mb: Peak of resident memory (CPU) or of allocated device memory (GPU) above the level at the start, in
            MB of 10**6 bytes; NaN where the system does not tell. Pages of files, such as libraries, that the system
            had dropped and read again do not count.
    """

    seconds: float = float("nan")
    peak_mb: float = float("nan")


@contextmanager
def metered(device: torch.device) -> Iterator[Cost]:
    """Fill a cost with what the body takes. The heap is emptied first, so that runs do not help each other."""
    cost = Cost()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held, start = torch.cuda.memory_allocated(device), time.perf_counter()
        yield cost
        torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_mb = (torch.cuda.max_memory_allocated(device) - held) / 1e6
        return
    trim()
    linux = CLEAR.exists()
    if linux:
        CLEAR.write_text(RESET_PEAK)
    before, files, start = _resident("VmRSS"), _resident("RssFile"), time.process_time()
    yield cost
    cost.seconds = time.process_time() - start
    if linux:
        again = max(0.0, _resident("RssFile") - files)
        cost.peak_mb = (_resident("VmHWM") - before - again) / 1e6


def trim() -> None:
    """Give free pages of the heap back to the system (glibc keeps them otherwise)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _resident(name: str) -> float:
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024.0
