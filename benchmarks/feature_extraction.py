"""How fast a backbone turns images into features here, against the plain way, and what the features are worth.

Both ways see the same images in one run, turn by turn, so that another program on the machine slows both; only their
ratio means something elsewhere. The plain way is torchvision's network in single precision on contiguous batches.

    python benchmarks/feature_extraction.py --images images.npy --weights weights.safetensors --labels labels.npy
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812
from torchvision import models

from deep_clustering.data.feature_options import FeatureOptions
from deep_clustering.data.features import fit_statistics, postprocess_rows
from deep_clustering.data.pretrained.extraction import make_extractor
from deep_clustering.data.pretrained.weights import locate_weights, read_weights
from deep_clustering.scores.metrics import accuracy, contingency
from deep_clustering.training.precision import resolve_precision
from deep_clustering.training.rows import resolve_device

VALUE_RANGE = (0, 255)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help=".npy, uint8 (n, channels, height, width); default: random pixels")
    parser.add_argument("--labels", type=Path, help=".npy, integers (n,): measures the worth of the features, too")
    parser.add_argument("--backbone", default="mobilenet_v2", help="name of torchvision (default: %(default)s)")
    parser.add_argument("--weights", default="random", help="as in features.weights (default: %(default)s)")
    parser.add_argument("--layer", default="features", help="as in features.layer (default: %(default)s)")
    parser.add_argument("--size", type=int, default=160, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="of the fast way: auto, bf16, fp32 (default: %(default)s)")
    parser.add_argument("--subset", type=int, default=256, help="images that are timed (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way (default: %(default)s)")
    parser.add_argument("--save", type=Path, help=".npy for the features of all images")
    return parser.parse_args()


def plain_way(options: FeatureOptions, weights: Path | None, device: torch.device) -> Callable:
    """Torchvision's network in single precision, run as its documentation does; global average of the last maps."""
    torch.manual_seed(0)
    model = models.get_model(options.backbone, weights=None).eval()
    if weights is not None:
        model.load_state_dict(read_weights(weights), strict=False)
    model.to(device)
    kept = {}
    model.get_submodule(options.layer).register_forward_hook(lambda module, inputs, output: kept.update(rows=output))
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)

    @torch.inference_mode()
    def extract(images: np.ndarray) -> np.ndarray:
        pixels = torch.tensor(images, device=device).float() / 255
        pixels = F.interpolate(pixels, size=(options.size, options.size), mode="bilinear", antialias=True)
        model((pixels - mean) / std)
        return kept["rows"].mean((2, 3)).cpu().numpy()

    return extract


def run(way: Callable, images: np.ndarray, batch_size: int) -> tuple[np.ndarray, float]:
    """Features and images per second."""
    started = time.perf_counter()
    rows = np.concatenate([way(images[i : i + batch_size]) for i in range(0, len(images), batch_size)])
    return rows, len(images) / (time.perf_counter() - started)


def compare(fast: Callable, plain: Callable, images: np.ndarray, batch_size: int, repeats: int) -> None:
    """Time both ways turn by turn and print speeds, ratio and difference."""
    speeds: dict[str, list[float]] = {"plain": [], "fast": []}
    rows: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, way in (("plain", plain), ("fast", fast)):
            rows[name], speed = run(way, images, batch_size)
            speeds[name].append(speed)
    ratios = np.divide(speeds["fast"], speeds["plain"])
    difference = np.linalg.norm(rows["fast"] - rows["plain"]) / np.linalg.norm(rows["plain"])
    print(f"| plain fp32, contiguous | {np.median(speeds['plain']):.0f} images/s |")
    print(f"| this project | {np.median(speeds['fast']):.0f} images/s |")
    spread = f"{np.median(ratios):.1f} ({ratios.min():.1f} to {ratios.max():.1f})"
    print(f"| ratio, median (least to most) of {repeats} turns | {spread} |")
    print(f"| relative difference of the features | {difference:.4f} |")


def judge(rows: np.ndarray, labels: np.ndarray) -> None:
    """Print what k-means finds, and what a linear classifier could."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.model_selection import cross_val_score

    n_classes = int(labels.max()) + 1
    everything = np.ones(len(rows), dtype=bool)
    for how in ("none", "standardise", "centre_l2"):
        processed = postprocess_rows(rows.copy(), fit_statistics(rows, everything, how), how)
        clusters = KMeans(n_classes, n_init=10, random_state=0).fit_predict(processed)
        acc = accuracy(contingency(clusters, labels, n_classes, n_classes))
        nmi = normalized_mutual_info_score(labels, clusters)
        print(f"| k-means, n_init 10, postprocess {how} | ACC {acc:.3f}, NMI {nmi:.3f} |", flush=True)
    statistics = fit_statistics(rows, everything, "standardise")
    standardised = postprocess_rows(rows.copy(), statistics, "standardise")
    scores = cross_val_score(LogisticRegression(C=0.01, max_iter=300), standardised, labels, cv=5)
    print(f"| linear classifier, 5 folds | accuracy {scores.mean():.3f} |")


def main() -> None:
    """Measure and print a table."""
    args = arguments()
    images = (
        np.load(args.images) if args.images else np.random.default_rng(0).integers(0, 256, (512, 3, 32, 32), np.uint8)
    )
    options = FeatureOptions(
        scaling="none",
        postprocess="none",
        backbone=args.backbone,
        weights=args.weights,
        size=args.size,
        layer=args.layer,
        batch_size=args.batch_size,
        precision=args.precision,
        device="auto",
        launcher="local",
        cache="",
        encoder=None,
        pooling="cls",
        max_tokens=512,
        lsa=100,
        max_terms=20000,
        max_df=0.3,
        min_df=2,
    )
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    weights = locate_weights(args.backbone, args.weights)
    fast = make_extractor(options, VALUE_RANGE, weights, precision, device)
    print(
        f"| {args.backbone}, {args.size} px, {precision} on {device}, {torch.get_num_threads()} threads | |\n|---|---|"
    )
    compare(fast, plain_way(options, weights, device), images[: args.subset], args.batch_size, args.repeats)
    if args.labels or args.save:
        rows, speed = run(fast, images, args.batch_size)
        print(f"| all {len(images)} images | {speed:.0f} images/s |")
        if args.save:
            np.save(args.save, rows)
        if args.labels:
            judge(rows, np.load(args.labels))


if __name__ == "__main__":
    main()
