"""The namespaces that are fitted and scored: one per method, and the named configurations of a method."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import MinLen

from deep_clustering.methods import METHODS
from deep_clustering.options import check_choice

# Blocks of parameters that configure a method in another way than the block of its own name.
NAMED_CONFIGURATIONS = ("dcan_literal", "neural_mixture_literal")

# Methods on the rows of a trunk that learned before them, and NMM-EM of the whole network behind that.
HEADS_ON_TRUNK = ("neural_mixture_on_trunk", "dcan_on_trunk", "temi_on_trunk", "turtle_on_trunk")
BASELINE_ON_TRUNK = "kmeans_on_trunk"
SELF_LABELLED = "self_labelled"
STAGED = (*HEADS_ON_TRUNK, BASELINE_ON_TRUNK, SELF_LABELLED)

NAMESPACES = (*METHODS, *NAMED_CONFIGURATIONS, *STAGED)


def options_of(pipeline: str) -> tuple[str, ...]:
    """Blocks of parameters behind the clusters of a namespace: its own, and those of the stages before it."""
    if pipeline not in STAGED:
        return (pipeline,)
    first = (HEADS_ON_TRUNK[0],) if pipeline == SELF_LABELLED else ()
    return (pipeline, *first, "trunk", "trunk_neighbours")


# What `comparison.methods` is in conf/base, for what asks without a configuration: Kedro-Viz and `kedro registry`.
COMPARED = ("dcan", "neural_mixture", "kmeans", "gmm", "ward", "tsne_gmm")


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """The parameter block `comparison`."""

    methods: Annotated[list[str], MinLen(1)]
    """Methods and named configurations that `kedro run` without a name trains and compares."""

    def __post_init__(self) -> None:
        for name in self.methods:
            check_choice("methods", name, NAMESPACES)
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must name each once, got {self.methods}")
