"""Names that diffusers and PyTorch may move: all of them listed, all of them there."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import accelerate.hooks
import diffusers
import pytest
from torch import nn

from sfumato.models.private import RELIED_ON, Private
from sfumato.models.sites import TEXT_FIRST
from tests.families import FAMILIES

SOURCE = Path(__file__).resolve().parents[2] / "src" / "sfumato"
IN_FILES = {"_hf_hook", "_name_or_path", "_class_name", "_backends", "_attn_implementation"}
"""Part of the files that diffusers and transformers write, or of their documentation."""

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@cache
def objects() -> tuple[Any, ...]:
    """Every pipeline of the families, its parts and the modules of its networks, one of each class."""
    found: dict[type, Any] = {}
    for family in FAMILIES:
        pipeline = family.build()
        pipeline.progress_bar(range(1))  # which sets what was not set yet
        for part in (pipeline, *pipeline.components.values()):
            found.setdefault(type(part), part)
            if isinstance(part, nn.Module):
                for module in part.modules():
                    found.setdefault(type(module), module)
                    if hasattr(module, "register_tokens") or getattr(module, "added_kv_proj_dim", None):
                        found[type(module)] = module
    found[accelerate.hooks.AlignDevicesHook] = accelerate.hooks.AlignDevicesHook()
    return tuple(found.values())


@pytest.mark.parametrize("private", RELIED_ON, ids=lambda p: f"{p.of}.{p.name}")
def test_a_private_name_is_still_there(private: Private) -> None:
    owner = owner_of(private)
    if private.instance:
        here = [one for one in objects() if isinstance(one, owner)]
        assert here, f"no family has a {private.of}; add one to tests/families, or leave the name out of the list"
        there = any(hasattr(one, private.name) for one in here)
    else:
        there = hasattr(owner, private.name)
    assert there, (
        f"{private.of} has no {private.name!r} any more, which Sfumato needs: {private.why}. Find what took its place, "
        "change that module and the list in src/sfumato/models/private.py"
    )


@pytest.mark.parametrize("name", sorted(TEXT_FIRST))
def test_transformers_have_their_names(name: str) -> None:
    assert hasattr(diffusers, name), (
        f"diffusers has no {name} any more; the order of text and image is known by such names (models/sites.py)"
    )


def test_a_name_that_is_gone_says_what_it_was_for() -> None:
    gone = Private("diffusers:NoSuchPipeline", "_x", "nothing (nowhere.py)")
    with pytest.raises(LookupError, match="diffusers:NoSuchPipeline is gone .* needs it: nothing"):
        owner_of(gone)


def test_no_other_private_name_of_others_is_used() -> None:
    listed = {private.name for private in RELIED_ON} | IN_FILES | {"_exit"}  # os._exit is documented
    assert private_names_in(SOURCE) - listed == set()


def private_names_in(source: Path) -> set[str]:
    """The private names of others that the files of a package use."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(source.rglob("*.py"))]
    return {name for tree in trees for name in _used(tree)} - {name for tree in trees for name in _defined(tree)}


def owner_of(private: Private) -> Any:
    """The module or class that a name is looked up in.

    Raises:
        LookupError: There is no such module or class.
    """
    module, _, inner = private.of.partition(":")
    try:
        found: Any = importlib.import_module(module) if module != "torch.ops.aten" else __import__("torch").ops.aten
        return getattr(found, inner) if inner else found
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{private.of} is gone ({error}); Sfumato needs it: {private.why}") from error


def _defined(tree: ast.AST) -> set[str]:
    """Private names that a file gives to its own things."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def _used(tree: ast.AST) -> set[str]:
    """Private names that a file reads of other things or imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}
