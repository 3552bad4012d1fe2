"""Small networks, extraction from them, and the same by the definition."""

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from deep_clustering.data.pretrained import extract_rows

RANGE = [0.0, 255.0]
SHA = "0" * 64
MEAN = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
STD = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)


def with_statistics(model):
    """Statistics as after training: without them a deep random network gives the same row for all images."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(64, 3, 32, 32))
    return model.eval()


def computed(forwards):
    """Images that were extracted: one call with one image only tries the network."""
    return sum(forwards) - 1 if forwards else 0


def extract(images, options, sha256=SHA, value_range=RANGE):
    return extract_rows(images, value_range, sha256, options)


@torch.inference_mode()
def plain_forward(model, images, size=32, value_range=RANGE, layers=("features",)):
    """The definition, with torchvision's own modules one after the other."""
    low, high = value_range
    pixels = (images.astype(np.float64) - low) / (high - low)
    pixels = F.interpolate(torch.from_numpy(pixels), size=(size, size), mode="bilinear", antialias=True)
    output = ((pixels - torch.from_numpy(MEAN)) / torch.from_numpy(STD)).float()
    for layer in layers:
        output = model.get_submodule(layer)(output)
    return output.mean((2, 3)).numpy()
