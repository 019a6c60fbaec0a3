"""What an array means to its readers, as attributes of the array, so that it travels with a result to the disk.

Readers (summary, plots, report, judging, tables of runs) find arrays by their role and never by their name, so a result
of any method is drawn, judged and exported alike. Names of dimensions are fixed: ``image`` where there are several,
``step`` for steps of the run, ``y`` and ``x`` for the grid of a map; all others label what the numbers belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import xarray as xr

from sfumato.errors import OptionError

Role = Literal["map", "importance", "share", "error", "freedom", "curve"]
Better = Literal["higher", "lower"]
ROLES: tuple[Role, ...] = get_args(Role)
BESIDE: tuple[Role, ...] = ("share", "error", "freedom")
"""What stands beside an importance, in its node and over its dimensions."""
IMAGE, STEP, GRID = "image", "step", ("y", "x")
"""Names of dimensions that have one meaning everywhere."""


@dataclass(frozen=True)
class Meaning:
    """What an array means.

    Attributes:
        role: "map", how much each position of the image matters, over (y, x), with a map for each step or label of its
            other dimensions; "importance", a number for each word or other player, over one dimension; its "share",
            standard "error" and degrees of "freedom" in the same node, over the same dimension; "curve", values over
            steps, or else over the last dimension, a curve for each label of the others.
        unit: Of the values, such as "nats"; "" for that of the node, or none.
        direction: Whether "higher" or "lower" values of a map stand for what matters more.
        bounds: The lowest and the highest value of a curve; None for what it has.

    Raises:
        OptionError: There is no such role or direction.

    Example:
        >>> import numpy as np, xarray as xr
        >>> node = xr.Dataset({"heat": (("y", "x"), np.eye(4), Meaning("map", unit="nats").attrs)})
        >>> role_of(node["heat"])
        'map'
    """

    role: Role
    unit: str = ""
    direction: Better = "higher"
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what no reader understands."""
        for name, value, known in (("role", self.role, ROLES), ("direction", self.direction, get_args(Better))):
            if value not in known:
                raise OptionError(f"there is no {name} {value!r}; choose from: {', '.join(known)}")

    @property
    def attrs(self) -> dict[str, Any]:
        """As attributes of an array, without what is usual."""
        found: dict[str, Any] = {"role": self.role}
        if self.unit:
            found["unit"] = self.unit
        if self.direction != "higher":
            found["direction"] = self.direction
        if self.bounds is not None:
            found["bounds"] = list(self.bounds)
        return found


IMPORTANCE: Mapping[str, Meaning] = {
    "phi": Meaning("importance"),
    "share": Meaning("share"),
    "error": Meaning("error"),
    "freedom": Meaning("freedom"),
}
"""What the arrays mean that the methods over words as players have, by name."""


class Declared(NamedTuple):
    """An array that says what it means.

    Attributes:
        path: Of its node.
        name: Its own.
        node: What stands with it.
    """

    path: str
    name: str
    node: xr.Dataset

    @property
    def array(self) -> xr.DataArray:
        """The array."""
        return self.node[self.name]

    @property
    def labels(self) -> tuple[str, ...]:
        """Its dimensions that are neither images, steps nor the grid of a map."""
        return tuple(str(dim) for dim in self.array.dims if dim not in (IMAGE, STEP, *GRID))

    @property
    def player(self) -> str:
        """Of an importance, the dimension of what is important: the only one but images."""
        (found,) = (str(dim) for dim in self.array.dims if dim != IMAGE)
        return found

    @property
    def title(self) -> str:
        """What readers call it: the path of its node, with its own name where the node has several of its role."""
        role = role_of(self.array)
        alone = sum(role_of(array) == role for array in self.node.data_vars.values()) == 1
        return self.path if alone else f"{self.path}/{self.name}"

    @property
    def unit(self) -> str:
        """Of the array, or else of its node; "" where neither has one."""
        return str(self.array.attrs.get("unit") or self.node.attrs.get("unit", ""))

    @property
    def meaning(self) -> dict[str, Any]:
        """What the array says of itself, with its unit."""
        own = {name: self.array.attrs[name] for name in ("role", "direction", "bounds") if name in self.array.attrs}
        return own | ({"unit": self.unit} if self.unit else {})

    def beside(self, role: Role) -> xr.DataArray | None:
        """The array of a role in the same node."""
        return next((array for array in self.node.data_vars.values() if role_of(array) == role), None)


def role_of(array: xr.DataArray) -> Role | None:
    """The role of an array; None where it has none, or one of a later version."""
    role = array.attrs.get("role")
    return role if role in ROLES else None


def declared(tree: xr.DataTree, *roles: Role) -> list[Declared]:
    """All arrays of some roles, in the order of the tree."""
    nodes = ((node.path.strip("/"), node.to_dataset(inherit=False)) for node in tree.subtree)
    return [
        Declared(path, str(name), node)
        for path, node in nodes
        for name, array in node.data_vars.items()
        if role_of(array) in roles
    ]


def heat_of(array: xr.DataArray) -> xr.DataArray:
    """Maps, turned so that higher values stand for what matters more."""
    return array.max(GRID) - array if array.attrs.get("direction") == "lower" else array


def axis_of(curve: xr.DataArray) -> str:
    """The dimension along which a curve runs."""
    return STEP if STEP in curve.dims else str(curve.dims[-1])
