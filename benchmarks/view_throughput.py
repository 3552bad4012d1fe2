"""Views in images per core-second, against PIL-based transforms of torchvision that do the same operations.

    python benchmarks/view_throughput.py

One thread each, in turn, in one run, so that another program on the machine slows both; only the ratio means
something elsewhere. Greyscale images take rotation, shift, zoom and shear; colour images take crop, flip, jitter and
greyscale.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from deep_clustering.training.views import Affine, Photo

N_IMAGES, ROUNDS = 1024, 7


def grey() -> tuple[Callable[[], object], Callable[[], object]]:
    """Affine views of 28 x 28 greyscale images, ours and PIL's."""
    arrays = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 28, 28), dtype=np.uint8)
    view = Affine(size=0, rotation=25, translation=0.1, scale=0.15, shear=10)
    theirs = transforms.Compose(
        [
            transforms.RandomAffine(25, (0.1, 0.1), (0.85, 1.15), 10, transforms.InterpolationMode.BILINEAR),
            transforms.ToTensor(),
        ]
    )
    images = [Image.fromarray(array) for array in arrays]
    rows = torch.from_numpy(arrays[:, None].astype(np.float32) / 255)
    generator = torch.Generator().manual_seed(0)
    return lambda: view(rows, generator), lambda: torch.stack([theirs(image) for image in images])


def colour() -> tuple[Callable[[], object], Callable[[], object]]:
    """Contrastive views of 32 x 32 colour images, ours and PIL's."""
    arrays = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 32, 32, 3), dtype=np.uint8)
    view = Photo(size=0, crop=0.5, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, greyscale=0.2)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, (0.25, 1.0), (1.0, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
        ]
    )
    images = [Image.fromarray(array) for array in arrays]
    rows = torch.from_numpy(arrays.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    generator = torch.Generator().manual_seed(0)
    return lambda: view(rows, generator), lambda: torch.stack([theirs(image) for image in images])


def rate(function: Callable[[], object]) -> float:
    """Images per second of the processor's time in one call."""
    started = time.process_time()
    function()
    return N_IMAGES / (time.process_time() - started)


def main() -> None:
    """Print the median rates and the median of the paired ratios."""
    torch.set_num_threads(1)
    print("| views | ours, images / core-s | PIL | ratio: median (least, greatest) |\n|---|---|---|---|")
    for name, (ours, theirs) in {"affine 28 x 28": grey(), "photo 32 x 32 x 3": colour()}.items():
        ours(), theirs()
        pairs = np.array([(rate(ours), rate(theirs)) for _ in range(ROUNDS)])
        ratio = pairs[:, 0] / pairs[:, 1]
        print(
            f"| {name} | {np.median(pairs[:, 0]):,.0f} | {np.median(pairs[:, 1]):,.0f} | "
            f"{np.median(ratio):.1f} ({ratio.min():.1f}, {ratio.max():.1f}) |"
        )


if __name__ == "__main__":
    main()
