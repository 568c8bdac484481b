# SPDX-License-Identifier: MIT
"""`Settings`: all that a NEAT search depends on besides its seed and its objective, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from freewire.errors import InputError, shown
from freewire.graph.arguments import check_number, check_ordered, check_probability, check_whole
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS

__all__ = ["INHERITANCE", "Settings"]

#: What the offspring of a genome inherits of what it has learnt by gradient steps: the weights, or nothing.
INHERITANCE = ("lamarckian", "baldwinian")

_FUNCTIONS = {"activation": ACTIVATIONS, "output_activation": ACTIVATIONS, "aggregation": AGGREGATIONS}
_WHOLE = {
    "num_inputs": (1, "Pass the number of features."),
    "num_outputs": (1, "Pass the number of results."),
    "population": (2, "Pass the number of genomes in a generation."),
    "initial_hidden": (0, "Pass a number of nodes."),
    "small_genome": (0, "Pass a number of edges."),
    "elitism": (0, "Pass a number of genomes."),
    "stagnation": (1, "Pass a number of generations."),
    "protected_species": (1, "Pass a number of species."),
    "min_species_size": (1, "Pass a number of genomes."),
    "gradient_steps": (0, "Pass a number of steps."),
}
_PROBABILITIES = (
    *("connectivity", "mutate_weights", "replace_weight", "mutate_biases", "replace_bias"),
    *("mutate_activation", "mutate_aggregation", "add_node", "delete_node", "add_edge", "delete_edge", "toggle_edge"),
    *("crossover", "interspecies", "keep_disabled", "survival"),
)
_NOT_NEGATIVE = (
    *("weight_std", "weight_step", "weight_limit", "bias_std", "bias_step", "bias_limit", "compatibility_threshold"),
    *("excess_coefficient", "disjoint_coefficient", "weight_coefficient", "function_coefficient", "lr"),
)


@dataclass(frozen=True)
class Settings:
    """The arguments of `freewire.search.NEAT`, which documents them; functions are tuples of names here."""

    num_inputs: int
    num_outputs: int
    population: int
    recurrent: bool
    activation: tuple[str, ...]
    output_activation: tuple[str, ...]
    aggregation: tuple[str, ...]
    initial_hidden: int
    connectivity: float
    weight_std: float
    weight_step: float
    weight_limit: float
    mutate_weights: float
    replace_weight: float
    bias_std: float
    bias_step: float
    bias_limit: float
    mutate_biases: float
    replace_bias: float
    mutate_activation: float
    mutate_aggregation: float
    add_node: float
    delete_node: float
    add_edge: float
    delete_edge: float
    toggle_edge: float
    crossover: float
    interspecies: float
    keep_disabled: float
    compatibility_threshold: float
    target_species: int | None
    excess_coefficient: float
    disjoint_coefficient: float
    weight_coefficient: float
    function_coefficient: float
    small_genome: int
    elitism: int
    survival: float
    stagnation: int
    protected_species: int
    min_species_size: int
    gradient_steps: int
    loss: str | None
    optimizer: str
    lr: float
    inheritance: str

    @classmethod
    def of(cls, arguments: dict[str, Any]) -> Settings:
        """Check the arguments of `NEAT`, by name; others among them are ignored.

        Raises:
            InputError: One is out of range, or no name of a function.
        """
        given = {field.name: arguments[field.name] for field in fields(cls)}
        for name, (least, remedy) in _WHOLE.items():
            given[name] = check_whole(name, given[name], least, remedy, error=InputError)
        for name in _PROBABILITIES:
            given[name] = check_probability(name, given[name], InputError)
        for name in _NOT_NEGATIVE:
            number = check_number(name, given[name], "a number of at least 0", "Correct it.", InputError)
            if not 0 <= number < float("inf"):
                raise InputError(f"{name}: expected a number of at least 0, got {shown(number)}. Correct it.")
            given[name] = number
        if given["target_species"] is not None:
            remedy = "Pass a number of species, or None for a constant threshold."
            given["target_species"] = check_whole(
                "target_species", given["target_species"], 1, remedy, None, InputError
            )
        if not isinstance(given["recurrent"], bool):
            raise InputError(f"recurrent: expected True or False, got {shown(given['recurrent'])}. Correct it.")
        for name, known in _FUNCTIONS.items():
            given[name] = _names(name, given[name], known)
        if given["inheritance"] not in INHERITANCE:
            raise InputError(
                f"inheritance: expected one of {', '.join(INHERITANCE)}, got {shown(given['inheritance'])}. Choose one "
                "of those."
            )
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _names(argument: str, given: Any, known: Sequence[str]) -> tuple[str, ...]:
    """A name or a list of names as different names."""
    check_ordered(given, argument, InputError)
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    for name in names or [given]:
        if not isinstance(name, str) or name not in known:
            raise InputError(
                f"{argument}: expected a name or a list of names among {', '.join(known)}, got {shown(name)}. Choose "
                "from those."
            )
    return tuple(dict.fromkeys(names))
