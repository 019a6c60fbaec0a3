"""Explanations on disk: a zarr v3 folder that opens only if all of it is there.

The root's attributes name the format and its version, hold request and provenance, and list for every array and group
how many files and bytes it has and their SHA-256. Opening compares files and bytes, which costs one look at the
folder; ``verify=True`` reads everything and compares the hashes. A seal over the attributes guards the list itself.
Any zarr reader can open the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from sfumato.errors import SfumatoError, StoreError
from sfumato.request import Request
from sfumato.results import schema, streaming
from sfumato.results.explanation import Explanation
from sfumato.results.folders import FILES_OF_THE_DESKTOP, recover, replacing, resolved
from sfumato.results.images import image_node
from sfumato.results.renames import renamed

FORMAT = "sfumato-explanation"
VERSION = schema.VERSION
NAME = "explanation.zarr"


def save(explanation: Explanation, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Store an explanation, whole or not at all; see ``Explanation.save``."""
    named = os.fspath(path)
    target = resolved(path)
    schema.validate(explanation.tree, values=True)
    if os.path.lexists(target) and not _is_empty_folder(target):
        if not overwrite:
            raise StoreError(f"{named} is there already; choose another name or pass overwrite=True")
        if not _is_explanation(target):
            raise StoreError(f"{named} is no stored explanation, so it is not replaced; choose another name")
    with replacing(target, named) as stage:
        _write(explanation, stage)


def open(path: str | PathLike[str], *, verify: bool = False) -> Explanation:
    """Open a stored explanation; arrays are read when they are used.

    Args:
        path: The zarr folder, or the folder that a run of ``sfumato explain`` wrote.
        verify: Read every byte and compare it with what was written.

    Raises:
        StoreError: Nothing is there, it is no explanation, it is incomplete or damaged, or a newer Sfumato wrote it.
    """
    named = os.fspath(path)
    folder = resolved(path)
    try:
        recover(folder)
        there = folder.exists()
    except StoreError:
        raise
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise StoreError(f"{named[:120]} cannot be opened: {error.strerror}") from error
    if not there:
        raise StoreError(f"{named} does not exist; give a folder that explanation.save() or `sfumato explain` wrote")
    if not folder.is_dir():
        raise StoreError(f"{named} is a file; a stored explanation is a folder")
    if streaming.is_stream(folder):
        return _opened_stream(folder)
    if (folder / NAME).is_dir() and not (folder / "zarr.json").exists():
        folder = folder / NAME
    attrs = _attributes(folder, named)
    _check_files(folder, attrs["manifest"], named, verify=verify)
    try:
        tree = xr.open_datatree(folder, engine="zarr", zarr_format=3, consolidated=True, chunks=None)
        tree.attrs = {}
        return Explanation(renamed(tree), Request.from_dict(attrs["request"]), attrs["provenance"])
    except SfumatoError as error:
        raise StoreError(f"{named} is no valid explanation: {error}") from error
    except Exception as error:  # whatever zarr, a codec or xarray make of bad bytes
        raise _damaged(named, f"{type(error).__name__}: {error}") from error


def _opened_stream(folder: Path) -> Explanation:
    """What a killed run left: its committed steps, with the last picture as the image."""
    nodes, about = streaming.read(folder)
    pictures = [nodes[name]["picture"].values for name in ("clean", "samples") if name in nodes]
    if not pictures:
        raise StoreError(f"{folder} holds no picture: left before its first step, or without samples; make it again")
    request = Request.from_dict(about["request"])
    tree = xr.DataTree.from_dict({"image": image_node([pictures[0][-1]], request.seeds), **nodes})
    return Explanation(renamed(tree), request, about["provenance"] | {"partial": True})


def _write(explanation: Explanation, folder: Path) -> None:
    tree = xr.DataTree.from_dict(
        {node.path: node.to_dataset(inherit=False).drop_encoding() for node in explanation.tree.subtree}
    )
    try:
        with warnings.catch_warnings():
            # Consolidated metadata lets any xarray open the store at once; zarr warns that others may not.
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            tree.to_zarr(folder, mode="w", zarr_format=3, consolidated=True)
    except BaseExceptionGroup as group:  # zarr writes chunks at the same time; one cause says enough
        raise _first(group) from group
    root = folder / "zarr.json"
    content = json.loads(root.read_text(encoding="utf-8"))
    attrs: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "sfumato": _own_version(),
        "request": explanation.request.to_dict(),
        "provenance": explanation.provenance,
        "manifest": _manifest(folder, hashes=True),
    }
    content["attributes"] = attrs | {"seal": _seal(attrs)}
    root.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _attributes(folder: Path, named: str) -> dict[str, Any]:
    """The root's attributes, known to be ours, readable and untouched."""
    root = folder / "zarr.json"
    if not root.exists():
        raise StoreError(f"{named} is not an explanation: it holds no {root.name}")
    try:
        content = json.loads(root.read_text(encoding="utf-8"))
        attrs: Any = content["attributes"]
        written_format, written_version = attrs.get("format"), attrs.get("version")
    except OSError as error:
        raise StoreError(f"cannot read {named}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(named, "zarr.json is unreadable") from error
    if written_format != FORMAT:
        raise StoreError(f"{named} is not an explanation: another program wrote this zarr store")
    if not isinstance(written_version, int) or written_version > VERSION:
        raise StoreError(
            f"{named} has format {written_version}, written by Sfumato {attrs.get('sfumato')}; "
            f"this is Sfumato {_own_version()}, which reads up to format {VERSION}: install a newer one"
        )
    seal = attrs.pop("seal", None)
    if seal != _seal(attrs):
        raise _damaged(named, "the attributes in zarr.json were changed")
    return dict(attrs)


def _check_files(folder: Path, manifest: dict[str, dict[str, Any]], named: str, *, verify: bool) -> None:
    try:
        found = _manifest(folder, hashes=verify)
    except OSError as error:
        raise StoreError(f"cannot read {named}: {error.strerror or error}") from error
    for name in sorted(set(manifest) | set(found)):
        wanted, present = manifest.get(name), found.get(name)
        if wanted is None:
            raise _damaged(named, f"{name} was added")
        if present is None:
            raise _damaged(named, f"{name} is missing")
        for what in ("files", "bytes"):
            if wanted[what] != present[what]:
                raise _damaged(named, f"{name} has {present[what]} of {wanted[what]} {what}")
        if verify and wanted["sha256"] != present["sha256"]:
            raise _damaged(named, f"{name} differs from what was written")


def _manifest(folder: Path, *, hashes: bool) -> dict[str, dict[str, Any]]:
    """Files, bytes and hash of every array and group below the root, by its path in the tree."""
    owned: dict[str, list[Path]] = {}
    owners: dict[str, str] = {}
    for path, folders, files in os.walk(folder):
        folders.sort()
        here = Path(path).relative_to(folder).as_posix()
        parent = Path(here).parent.as_posix()
        owners[here] = here if "zarr.json" in files else owners.get(parent, ".")
        owned.setdefault(owners[here], []).extend(
            Path(path, name) for name in sorted(files) if name not in FILES_OF_THE_DESKTOP
        )
    owned[owners["."]] = [file for file in owned[owners["."]] if file != folder / "zarr.json"]
    manifest: dict[str, dict[str, Any]] = {}
    for name, paths in owned.items():
        sizes = [file.stat().st_size for file in paths]
        entry: dict[str, Any] = {"files": len(paths), "bytes": sum(sizes)}
        if hashes:
            digest = hashlib.sha256()
            for file, size in zip(paths, sizes, strict=True):
                digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
                digest.update(file.read_bytes())
            entry["sha256"] = digest.hexdigest()
        manifest[name] = entry
    return manifest


def _seal(attrs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attrs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _is_explanation(path: Path) -> bool:
    try:
        return bool(json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _damaged(named: str, why: str) -> StoreError:
    return StoreError(f"{named} is incomplete or damaged: {why}; make it again")


def _own_version() -> str:
    try:
        return version("sfumato")
    except PackageNotFoundError:
        return "of unknown version"
