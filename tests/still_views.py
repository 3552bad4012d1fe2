"""Image views that change nothing, for tests that switch on one change at a time."""

import torch

from deep_clustering.training.views.image import Affine, Photo

STILL = {"size": 0, "rotation": 0.0, "translation": 0.0, "scale": 0.0, "shear": 0.0, "padding": "zeros"}
PLAIN_PHOTO = {
    "size": 0,
    "crop": 1.0,
    "flip": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "greyscale": 0.0,
}


def affine(**changes) -> Affine:
    return Affine(**STILL | changes)


def photo(**changes) -> Photo:
    return Photo(**PLAIN_PHOTO | changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
