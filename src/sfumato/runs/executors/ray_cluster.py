"""Connecting to a cluster of Ray, or starting one on this machine that nothing outside of it can reach."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from sfumato.bounds import shown
from sfumato.errors import RunError

INSTALL = "pip install 'sfumato[ray]'"
LOOPBACK = "127.0.0.1"
WAIT = 5.0
"""Seconds for each step of the first contact with a cluster."""
STORE = 100 * 2**20
"""Bytes of memory for objects in a cluster of our own: shards go through the disk there."""
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Where this is 0, Ray takes the loopback address for its own: its default on Windows and macOS, alone."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check_installed() -> None:
    """Raise a `RunError` where Ray is not installed."""
    if find_spec("ray") is None:
        raise RunError(f"the executor ray needs Ray: {INSTALL}")


@contextmanager
def connected(address: str | None, cpus: float) -> Iterator[tuple[Any, bool]]:
    """Use the cluster that the program is connected to, else that of an address, else a new one on this machine.

    Args:
        address: HOST:PORT, or "auto" for the cluster that this machine is a node of; that of RAY_ADDRESS where it is
            None.
        cpus: That a cluster of our own must offer, whatever the machine has.

    Yields:
        The module of Ray, and whether the cluster is our own; only what was begun here is ended with the block.

    Raises:
        RunError: The cluster does not answer, or has other versions of Ray or Python.
    """
    ray = _imported()
    if ray.is_initialized():
        yield ray, False
        return
    if address is None:
        address = os.environ.get("RAY_ADDRESS") or None
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address in (None, "local"):
            _start(ray, cpus, quiet)
        else:
            _check_address(str(address))
            _begin(ray, f"the Ray cluster at {shown(address)} cannot be used", address=address, **quiet)
        yield ray, address in (None, "local")
    finally:
        ray.shutdown()


def one_line(error: BaseException) -> str:
    """The first line of what Ray says."""
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return shown(lines[0].strip() if lines else type(error).__name__, 300).strip("'\"")


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    check_installed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
    return ray


def _start(ray: Any, cpus: float, quiet: dict[str, Any]) -> None:
    """Start a cluster of this machine alone, without a dashboard, that listens on the loopback address only."""
    with _loopback_only():
        _begin(
            ray,
            "Ray cannot start on this machine",
            address="local",
            include_dashboard=False,
            num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
            object_store_memory=STORE,
            **quiet,
        )
    own = {node["NodeManagerAddress"] for node in ray.nodes()}
    if own != {LOOPBACK}:
        raise RunError(f"Ray listens on {', '.join(sorted(own))} instead of {LOOPBACK}, so it was stopped")


@contextmanager
def _loopback_only() -> Iterator[None]:
    from ray._private import ray_constants

    before, usual = os.environ.get(_LOOPBACK_ONLY), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_LOOPBACK_ONLY], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual
        if before is None:
            del os.environ[_LOOPBACK_ONLY]
        else:
            os.environ[_LOOPBACK_ONLY] = before


def _begin(ray: Any, failed: str, **arguments: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(**arguments)
        except Exception as error:  # of many classes, RuntimeError and ConnectionError among them
            text = " ".join(_COLOURS.sub("", str(error)).split())
            if text.startswith("Version mismatch"):
                raise RunError(f"{failed}: {text}; use the same versions on all nodes") from error
            raise RunError(f"{failed}: {one_line(error)}") from error


def _check_address(address: str) -> None:
    """See that a cluster answers, since Ray itself would wait for minutes.

    Raises:
        RunError: Nothing answers there, or it is no cluster.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or int(port) >= 2**16:
        raise RunError(
            f"the address of the Ray cluster is {shown(address)}; expected HOST:PORT as `ray start` prints it, on a "
            "machine that is a node of the cluster, or auto"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), WAIT) as opened:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                opened.sendall(_GREETING)
                answer = opened.recv(9)
                if len(answer) < 4 or answer[3] != _SETTINGS:
                    raise ConnectionError("another program answers there")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RunError(
            f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or give no address"
        ) from error
