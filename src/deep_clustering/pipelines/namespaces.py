"""The namespaces that are fitted and scored: one per method, and the named configurations of a method."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import MinLen

from deep_clustering.methods import METHODS
from deep_clustering.options import check_choice

# Blocks of parameters that configure a method in another way than the block of its own name.
NAMED_CONFIGURATIONS = ("dcan_literal", "neural_mixture_literal")

NAMESPACES = (*METHODS, *NAMED_CONFIGURATIONS)

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
