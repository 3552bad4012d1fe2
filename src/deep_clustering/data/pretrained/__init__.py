"""Features from a pretrained network: backbones, weights, extraction and its cache.

This is the only place where networks and weights of other people are named; it imports torch and torchvision, so it is
imported only when a backbone is asked for.
"""

from deep_clustering.data.pretrained.extraction import extract_rows, identify, open_extractor

__all__ = ["extract_rows", "identify", "open_extractor"]
