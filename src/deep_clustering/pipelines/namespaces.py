"""The namespaces that are fitted and scored: one per method, and the named configurations of a method."""

from deep_clustering.methods import METHODS

# Blocks of parameters that configure a method in another way than the block of its own name.
NAMED_CONFIGURATIONS = ("dcan_literal", "neural_mixture_literal")

NAMESPACES = (*METHODS, *NAMED_CONFIGURATIONS)
