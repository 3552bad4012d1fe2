"""Features from a pretrained network: backbones, weights, extraction and its cache.

This is the only place where networks and weights of other people are named; it imports torch and torchvision, so it is
imported only when a backbone is asked for.
"""

from deep_clustering.pretrained.backbone import check_backbone
from deep_clustering.pretrained.extraction import extract_rows, identify, open_extractor
from deep_clustering.pretrained.weights import check_weights

__all__ = ["check_backbone", "check_weights", "extract_rows", "identify", "open_extractor"]
