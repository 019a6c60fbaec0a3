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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from sfumato.bounds import shown
from sfumato.errors import SfumatoError, StoreError, Unreadable
from sfumato.reading import read_bytes, read_json
from sfumato.request import Request
from sfumato.results import schema, streaming
from sfumato.results.guarded import damaged, guarded
from sfumato.results.images import image_node
from sfumato.results.renames import renamed
from sfumato.writing.folders import recover, replacing_folder, resolved
from sfumato.writing.records import FILES_OF_THE_DESKTOP, entries, irregular

FORMAT = "sfumato-explanation"
VERSION = schema.VERSION
NAME = "explanation.zarr"


Parts = tuple[xr.DataTree, Request, dict[str, Any]]
"""What an explanation is made of: its tree, its request and its provenance."""


def save(
    tree: xr.DataTree,
    request: Request,
    provenance: Mapping[str, Any],
    path: str | PathLike[str],
    *,
    overwrite: bool = False,
) -> None:
    """Store the parts of an explanation, whole or not at all; see ``Explanation.save``."""
    named = os.fspath(path)
    target = resolved(path)
    schema.validate(tree, values=True)
    if not overwrite and os.path.lexists(target) and not _is_empty_folder(target):
        raise StoreError(f"{named} is there already; choose another name or pass overwrite=True")
    with replacing_folder(target, _check_replaceable, named) as stage:
        _write(tree, request, provenance, stage)


def load(path: str | PathLike[str], *, verify: bool = False) -> Parts:
    """The parts of a stored explanation; see ``results.opening.open``."""
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
        with _damage_named(named):
            return _opened_stream(folder)
    if (folder / NAME).is_dir() and not (folder / "zarr.json").exists():
        folder = folder / NAME
    attrs = _attributes(folder, named)
    _check_files(folder, attrs["manifest"], named, verify=verify)
    with _damage_named(named):
        tree = xr.open_datatree(folder, engine="zarr", zarr_format=3, consolidated=True, chunks=None)
        nodes = {node.path: guarded(node.to_dataset(inherit=False), named) for node in tree.subtree}
        tree = xr.DataTree.from_dict(nodes)
        tree.attrs = {}
        return renamed(tree), Request.from_dict(attrs["request"]), attrs["provenance"]


@contextmanager
def _damage_named(named: str) -> Iterator[None]:
    """What zarr, a codec or xarray make of bad bytes becomes one kind of error."""
    try:
        yield
    except StoreError:
        raise
    except SfumatoError as error:
        raise StoreError(f"{named} is no valid explanation: {error}") from error
    except Exception as error:
        raise damaged(named, " ".join(f"{type(error).__name__}: {error}".split())[:300]) from error


def _opened_stream(folder: Path) -> Parts:
    """What a killed run left: its committed steps, with the last picture as the image."""
    nodes, about = streaming.read(folder)
    pictures = [nodes[name]["picture"].values for name in ("clean", "samples") if name in nodes]
    if not pictures:
        raise StoreError(f"{folder} holds no picture: left before its first step, or without samples; make it again")
    request = Request.from_dict(about["request"])
    tree = xr.DataTree.from_dict({"image": image_node([pictures[0][-1]], request.seeds), **nodes})
    return renamed(tree), request, about["provenance"] | {"partial": True}


def _write(tree: xr.DataTree, request: Request, provenance: Mapping[str, Any], folder: Path) -> None:
    plain = xr.DataTree.from_dict({node.path: node.to_dataset(inherit=False).drop_encoding() for node in tree.subtree})
    with warnings.catch_warnings(), streaming.one_cause():
        # Consolidated metadata lets any xarray open the store at once; zarr warns that others may not.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        plain.to_zarr(folder, mode="w", zarr_format=3, consolidated=True)
    root = folder / "zarr.json"
    content = read_json(root)
    attrs: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "sfumato": _own_version(),
        "request": request.to_dict(),
        "provenance": provenance,
        "manifest": _manifest(folder, hashes=True),
    }
    content["attributes"] = attrs | {"seal": _seal(attrs)}
    root.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _attributes(folder: Path, named: str) -> dict[str, Any]:
    """The root's attributes, known to be ours, readable and untouched."""
    root = folder / "zarr.json"
    if (folder / "manifest.json").exists():
        raise StoreError(f"{named} is a run of many prompts; open it with sfumato.open_run or `sfumato run status`")
    if not root.exists():
        raise StoreError(f"{named} is not an explanation: it holds no {root.name}")
    try:
        if (link := irregular(folder)) is not None:  # zarr would follow it, wherever it leads
            raise damaged(named, f"{link} is no regular file")
        content = read_json(root)
    except Unreadable as error:
        raise damaged(named, f"zarr.json cannot be read: {error.reason}") from error
    except OSError as error:
        raise StoreError(f"cannot read {named}: {error.strerror or error}") from error
    attrs = content.get("attributes") if isinstance(content, dict) else None
    if not isinstance(attrs, dict):
        raise damaged(named, "zarr.json has no attributes")
    written_version = attrs.get("version")
    if attrs.get("format") != FORMAT:
        raise StoreError(f"{named} is not an explanation: another program wrote this zarr store")
    if not isinstance(written_version, int) or written_version > VERSION:
        raise StoreError(
            f"{named} has format {shown(written_version)}, written by Sfumato {str(attrs.get('sfumato'))[:40]}; "
            f"this is Sfumato {_own_version()}, which reads up to format {VERSION}: install a newer one"
        )
    seal = attrs.pop("seal", None)
    if seal != _seal(attrs):
        raise damaged(named, "the attributes in zarr.json were changed")
    for part, kind in (("request", dict), ("provenance", dict), ("manifest", dict)):
        if not isinstance(attrs.get(part), kind):
            raise damaged(named, f"the attributes in zarr.json have no {part}")
    return dict(attrs)


def _check_files(folder: Path, manifest: dict[str, dict[str, Any]], named: str, *, verify: bool) -> None:
    try:
        found = _manifest(folder, hashes=verify)
    except OSError as error:
        raise StoreError(f"cannot read {named}: {error.strerror or error}") from error
    except Unreadable as error:
        raise StoreError(f"cannot read {named}: {error}") from error
    for name in sorted(set(manifest) | set(found)):
        wanted, present = manifest.get(name), found.get(name)
        if wanted is None:
            raise damaged(named, f"{name} was added")
        if not isinstance(wanted, dict) or not {"files", "bytes", "sha256"} <= set(wanted):
            raise damaged(named, f"the manifest says nothing usable of {name}")
        if present is None:
            raise damaged(named, f"{name} is missing")
        for what in ("files", "bytes"):
            if wanted[what] != present[what]:
                raise damaged(named, f"{name} has {present[what]} of {wanted[what]} {what}")
        if verify and wanted["sha256"] != present["sha256"]:
            raise damaged(named, f"{name} differs from what was written")


def _check_replaceable(folder: Path, named: str) -> None:
    """Raise unless a folder is empty, or a stored explanation in which nothing was changed or added."""
    if not entries(folder):
        return
    if not _is_explanation(folder):
        raise StoreError(f"{named} is no stored explanation, so it is not replaced; choose another name")
    try:
        _check_files(folder, _attributes(folder, named)["manifest"], named, verify=True)
    except StoreError as error:
        raise StoreError(
            f"{named} is not as Sfumato wrote it, so it is not replaced; move it away or choose another name ({error})"
        ) from error


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
                digest.update(read_bytes(file, size))
            entry["sha256"] = digest.hexdigest()
        manifest[name] = entry
    return manifest


def _seal(attrs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attrs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _is_explanation(path: Path) -> bool:
    try:
        return bool(read_json(path / "zarr.json")["attributes"]["format"] == FORMAT)
    except (Unreadable, KeyError, TypeError):
        return False


def _own_version() -> str:
    try:
        return version("sfumato")
    except PackageNotFoundError:
        return "of unknown version"
