# SPDX-License-Identifier: MIT
"""What the columns of a table of edges mean, by their names and the caller's arguments.

In come the names of a table's columns, of CSV (`freewire.files.csv_layout`) or of Arrow's formats
(`freewire.files.arrow_format`); out come their places. What could be read in two ways raises and names the choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, GraphError, cut, shown
from freewire.graph.arguments import whole
from freewire.graph.field_types import Field
from freewire.graph.fields import EDGE_FIELDS, NODE_FIELDS, UNDIRECTED

#: Names of the two columns of an edge, as `plain` makes them, from: networkx, Gephi, igraph, SNAP, neo4j, numpy users,
#: neuPrint, FlyWire, MICrONS and the tables of C. elegans.
ENDS = (
    *((f"source{what}", f"target{what}") for what in ("", "id", "node", "nodeid", "name")),
    *((f"src{what}", f"dst{what}") for what in ("", "id")),
    *((f"from{what}", f"to{what}") for what in ("", "id", "node", "nodeid", "name")),
    *((f"start{what}", f"end{what}") for what in ("", "id", "node", "nodeid")),
    *((f"pre{what}", f"post{what}") for what in ("", "id", "syn", "synaptic", "synapticid", "name", "cell", "cellid")),
    *((f"pre{what}", f"post{what}") for what in ("neuron", "neuronid", "synapticneuron", "rootid", "ptrootid")),
    ("presynapticindex", "postsynapticindex"),
    *((f"{what}pre", f"{what}post") for what in ("id", "bodyid", "rootid")),
    *((f"node{one}", f"node{two}") for one, two in ("12", "ab")),
    *((f"neuron{one}", f"neuron{two}") for one, two in ("12", "ab")),
    ("source", "destination"),
    ("source", "dest"),
    ("src", "dest"),
    ("origin", "destination"),
    ("sender", "receiver"),
    ("u", "v"),
    (":startid", ":endid"),
)
#: Names of columns that do not say which end is which.
UNCLEAR = (("head", "tail"), ("parent", "child"), ("row", "col"), ("row", "column"), ("i", "j"))
#: FlyWire's tables of both are read by the first pair.
INDICES, IDS = ("presynapticindex", "postsynapticindex"), ("presynapticid", "postsynapticid")
#: Ends whose names are the ids of a reconstruction: integers of 64 bits, or text that does not look like an integer.
RECONSTRUCTED = ("rootid", "bodyid", "bodyidpre", "bodyidpost", "startid", "endid", "synapticid", "synapticindex")
#: Names of columns that hold weights, as `plain` makes them, of FlyWire, MICrONS and the tables of C. elegans.
WEIGHTS = ("excitatoryxconnectivity", "syncount", "nsyn", "nbr")
#: Names that are those of weights only beside known ends: the volume of a synapse in MICrONS.
WEIGHTS_OF = {"size": ("preptrootid", "postptrootid")}
#: How the names of columns end that number things, as `plain` makes them.
NUMBERING = ("id", "ids", "index", "idx", "key", "level0")

#: What the messages about nodes say.
FOR_NODES = "Node attributes and nodes without edges are read from a table of nodes, nodes=, or from .json."

_WHICH_ENDS = "Pass source= and target=, each a column's name or number."
_WHICH_WEIGHT = "Pass weight=, a column's name or number, or weight=False for none."


class Refuse(Protocol):
    """Raises `FileFormatError` about a table's names."""

    def __call__(self, expected: str, got: str, remedy: str, /) -> NoReturn:
        """Raise."""


@dataclass(frozen=True)
class Options:
    """The caller's arguments for tables; see `freewire.files.read_graph`."""

    source: str | int | None = None
    target: str | int | None = None
    header: bool | None = None
    weight: str | int | None = None
    sign: str | int | None = None

    def __post_init__(self) -> None:
        for name in ("source", "target", "weight", "sign"):
            given = getattr(self, name)
            if given is None:
                if name in ("source", "target") and (self.source is not None or self.target is not None):
                    raise GraphError(
                        f"{name}: expected a column, as for the other end, got None. Pass both or neither."
                    )
                continue
            if name == "weight" and given is False:
                continue
            if not isinstance(given, str):
                number = whole(given)
                if number is None:
                    raise GraphError(f"{name}: expected a column's name or number, got {shown(given)}. Correct it.")
                if number < 0:
                    raise GraphError(f"{name}: expected a column's number from 0, got {shown(given)}. Correct it.")
                object.__setattr__(self, name, number)  # an int, also for numpy's integers
            if isinstance(given, str) and self.header is False:
                raise GraphError(
                    f"{name}: expected a column's number, since header=False, got {shown(given)}. Pass its number."
                )
        if self.header is not None and not isinstance(self.header, bool):
            raise GraphError(f"header: expected True, False or None, got {shown(self.header)}. Correct it.")

    def named(self) -> list[str]:
        """The names of columns that the caller gives."""
        return [given for given in (self.source, self.target, self.weight, self.sign) if isinstance(given, str)]


@dataclass
class Roles:
    """Which columns are read, and as what.

    Attributes:
        ends: Numbers of the columns of source and target.
        fields: The edge fields that have a column, with its number.
        undirected: The columns that may say that an edge has no direction, with the texts that do, in lower case.
        sign_of_weight: Whether the sign is that of the weight.
    """

    ends: list[int]
    fields: list[tuple[Field, int]] = field(default_factory=list)
    undirected: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    sign_of_weight: bool = False


class Columns:
    """The names of a table's columns, and what the caller says about them.

    Args:
        path: The table's file, for errors.
        names: Of its columns.
        options: The caller's.
        refuse: Raises about the names.
        is_number: Whether a column, by its number, holds numbers that may be weights.
    """

    def __init__(
        self, path: str, names: Sequence[str], options: Options, refuse: Refuse, is_number: Callable[[int], bool]
    ) -> None:
        self.path = path
        self.names = names
        self.options = options
        self.refuse = refuse
        self.is_number = is_number
        self.plain = [plain(name) for name in names]

    def given(self, argument: str, column: str | int) -> int:
        """The number of a column of the caller's."""
        found = positions(self.names, column) if isinstance(column, str) else [column]
        if len(found) == 1 and found[0] < len(self.names):
            return found[0]
        if len(found) > 1:
            remedy = f"Correct {argument}=, or pass the column's number."
            self.refuse(f"one column of the name, the {argument}", f"{len(found)} columns {shown(column)}", remedy)
        got = shown(column) if isinstance(column, str) else f"number {shown(column)}"
        raise FileFormatError(
            f"{argument}: expected one of the {listed(self.names)} of {self.path}, got {got}. Correct it."
        )

    def given_ends(self) -> list[int] | None:
        """The ends that the caller names, None if they are omitted."""
        source, target = self.options.source, self.options.target
        if source is None or target is None:
            return None
        ends = [self.given("source", source), self.given("target", target)]
        if ends[0] == ends[1]:
            raise GraphError(f"target: expected another column than source, got {shown(target)}. Correct it.")
        return ends

    def known_ends(self, found: list[tuple[str, str]]) -> list[int]:
        """The ends by names that are known, of which there are some, unless several are."""
        ends = [[k for k, name in enumerate(self.plain) if name == end] for end in found[0]]
        if len(found) > 1 or any(len(columns) > 1 for columns in ends):
            columns = [
                name
                for name, plain_name in zip(self.names, self.plain, strict=True)
                if any(plain_name in p for p in found)
            ]
            self.refuse_ends("one column for each end of an edge", columns)
        if found[0] in UNCLEAR:
            self.refuse_ends("columns whose names say which end is which", self.names)
        return [columns[0] for columns in ends]

    def other_ends(self, is_index: Callable[[], bool]) -> list[int]:
        """The ends among columns of unknown names: the only two that are neither a field nor row numbers.

        Args:
            is_index: Whether the first column, which has no name, holds row numbers.
        """
        fields = {entry.name for entry in (*EDGE_FIELDS, *NODE_FIELDS)}
        named = [
            self.given(name, column)
            for name, column in (("weight", self.options.weight), ("sign", self.options.sign))
            if column is not None and column is not False
        ]
        ends = [k for k, name in enumerate(self.names) if name.casefold() not in fields and k not in named]
        ends = [k for k in ends if self.plain[k] not in WEIGHTS]
        if len(ends) == 3 and not self.names[0] and is_index():
            ends = ends[1:]
        known = {name for pair in ENDS for name in pair if name.endswith(RECONSTRUCTED)}
        if len(ends) != 2 or any(self.plain[k] in known for k in ends):  # one without the other
            self.refuse_ends("two columns that are the ends of an edge", self.names)
        if self.plain[ends[0]] == self.plain[ends[1]]:
            self.refuse_ends("two columns of different names as the ends of an edge", self.names)
        return ends

    def roles(self, ends: list[int]) -> Roles:
        """The columns of fields, by the caller's arguments or by their names."""
        roles = Roles(ends)
        typed = any(name.startswith(":") for name in self.plain)  # neo4j writes name:type
        names = [name.casefold().split(":")[0] if typed else name.casefold() for name in self.names]
        others = {k: name for k, name in enumerate(names) if k not in ends}
        for entry in EDGE_FIELDS:
            column = getattr(self.options, entry.name, None)
            if column is False:
                continue
            if column is not None:
                self.add(roles, entry, self.given(entry.name, column))
                continue
            columns = [k for k, name in others.items() if name == entry.name]
            if len(columns) > 1:
                got = f"{len(columns)} of the {listed(self.names)}"
                self.refuse(f"one column {entry.name}", got, "Rename the others.")
            if entry.name == "weight":
                columns = self.weights(ends, others, columns)
            if columns:
                self.add(roles, entry, columns[0])
        taken = {column for _, column in roles.fields}
        for entry in NODE_FIELDS:
            if entry.name in (name for k, name in others.items() if k not in taken):
                self.refuse("columns of edges", f"a column {entry.name}", f"Rename that column. {FOR_NODES}")
        reversed_types = {"r", "rp"} if self.plain[ends[0]] == "neuron1" else set()  # R is the reverse of S
        for name, words in UNDIRECTED.items():
            for k in (k for k, other in others.items() if other == name and k not in taken):
                roles.undirected.append((k, words | reversed_types if name == "type" else words))
        return roles

    def add(self, roles: Roles, entry: Field, column: int) -> None:
        """Add the column of a field."""
        if column in roles.ends:
            raise GraphError(
                f"{entry.name}: expected another column than source and target, got "
                f"{shown(getattr(self.options, entry.name))}. Correct it."
            )
        if entry.name == "sign" and any(column == other for _, other in roles.fields):
            roles.sign_of_weight = True
        else:
            roles.fields.append((entry, column))

    def weights(self, ends: list[int], others: dict[int, str], named: list[int]) -> list[int]:
        """The column of weights, if there is one: known by its name; refused where there are several, or others."""
        beside = {self.plain[k] for k in ends}
        known = [*WEIGHTS, *(name for name, pair in WEIGHTS_OF.items() if beside == {*pair})]
        found = named + [k for k, name in others.items() if k not in named and plain(name) in known]
        if len(found) > 1:
            self.refuse("one column of weights", listed([self.names[k] for k in found]), _WHICH_WEIGHT)
        if not found:
            unknown = [k for k, name in others.items() if self.could_be_weight(k, name)]
            if unknown:
                got = f"{listed([self.names[k] for k in unknown])} of numbers, which could be weights"
                self.refuse("a column weight, or none of numbers", got, _WHICH_WEIGHT)
        return found

    def could_be_weight(self, column: int, name: str) -> bool:
        """Whether a column is one of numbers that nothing says the meaning of."""
        reserved = {*UNDIRECTED, *(entry.name for entry in (*EDGE_FIELDS, *NODE_FIELDS))}
        if not plain(name) or name in reserved or plain(name).endswith(NUMBERING):
            return False
        given = (self.options.sign,)
        return self.is_number(column) and not any(
            each is not None and self.given("sign", each) == column for each in given
        )

    def refuse_ends(self, expected: str, columns: Sequence[str], got: str = "") -> NoReturn:
        """Raise about ends that the caller can name."""
        self.refuse(expected, got or listed(columns), _WHICH_ENDS)


def plain(name: str) -> str:
    """A column's name without what programs write differently: case, separators, and neo4j's group of nodes."""
    return re.sub(r"[\s_.-]|\([^()]*\)$", "", name.casefold())


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of known names of which both are there.

    Args:
        names: As `plain` makes them.
    """
    there = set(names)
    known = [pair for pair in ENDS if there.issuperset(pair)]
    if INDICES in known and IDS in known:
        known.remove(IDS)
    return known or [pair for pair in UNCLEAR if there.issuperset(pair)]


def positions(names: Sequence[str], name: str) -> list[int]:
    """The columns of a name, or if there are none, those of the same name in other case."""
    name = name.strip()
    exact = [k for k, other in enumerate(names) if other.strip() == name]
    return exact or [k for k, other in enumerate(names) if other.strip().casefold() == name.casefold()]


def listed(names: Sequence[str]) -> str:
    """Columns, for an error."""
    return "columns " + cut(", ".join(cut(shown(name), 40) for name in names[:20]), 300)


def are_indices(names: Sequence[str]) -> bool:
    """Whether the names of both ends say that they hold row numbers of a table of nodes."""
    return all(plain(name).endswith(("index", "idx")) for name in names)


def are_ids(names: Sequence[str]) -> bool:
    """Whether the names of both ends are those of the ids of a reconstruction; see `RECONSTRUCTED`."""
    return all(plain(name).endswith(RECONSTRUCTED) for name in names)


def signs(weight: NDArray[Any]) -> NDArray[np.int8]:
    """The sign of each weight, 0 where an edge has none."""
    return np.sign(np.nan_to_num(weight)).astype(np.int8)
