"""Patches of images, embedded by what occurs beside them: rows that need no weights of anybody.

After the sparse manifold transform of Chen, Paiton and Olshausen (arXiv 1806.08887), for images by Chen, Yun, Ma,
Olshausen and LeCun (arXiv 2209.15261), of which abstract and introduction were at hand:

    z = (x - mean(x) - m) W / |...|                        a whitened patch of length one
    a(z) = the greatest cosines of z with the atoms        a sparse code of length one
    P = argmin E |P (a_p - a_q)|^2  so that  P V P' = I    over patches p, q side by side; V the covariance of codes
    row = mean over each cell of P (a - E a) / |P (a - E a)|

The third line is solved by the greatest eigenvalues of C u = v V u with C the covariance of codes side by side:
what changes slowly across an image is kept, which a texture or a stroke does and noise does not.

    x  pixels of a patch    m, W  mean and whitening of patches    a  code    V, C  covariances    P  embedding

Departures: (1) atoms are centres of spherical k-means, codes their few greatest cosines, without a lasso; (2) few
directions and many cells, not many and few: what was tried stands in docs/experiments/own-data.md; (3) faint patches,
such as a blank background's, have no code.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional

from deep_clustering.data.feature_options import PATCHES
from deep_clustering.data.small_images import check_four_axes, resized_images, scaled_images
from deep_clustering.training.draws import evenly_spaced
from deep_clustering.training.progress import Reading, meter
from deep_clustering.training.scratch import room

# Images are seen at this side, in patches of so many pixels every so many.
_SIDE, _PATCH, _STRIDE = 32, 6, 2
_GRID = (_SIDE - _PATCH) // _STRIDE + 1
# Atoms, of which one is for so many patches at least; cosines that a code keeps; directions; cells along each side.
_ATOMS, _PATCHES_OF_ATOM, _KEPT, _DIRECTIONS, _CELLS = 1024, 32, 8, 8, 8
# Added to the variances of whitening, a share of their mean; a patch is faint below so much of the mean variance.
_RIDGE, _FAINT = 0.3, 0.05
# Differences within a patch up to this share of its mean are rounding errors of the resizing, a few float32 steps.
_ROUNDING = 4e-6
# Patches that whitening and atoms are learned from, evenly spaced, and rounds of k-means.
_LEARNED_PATCHES, _ROUNDS = 200_000, 3
# Images, and patches, at a time.
_IMAGES, _CHUNK = 128, 1024
# Fewer images show no progress.
_SHOWN_IMAGES = 5000

LEARNED_IMAGES = 2000
"""Images that the embedding is learned from, evenly spaced."""

_NAMES = ("mean", "whitening", "atoms", "embedding", "offset", "faintest")
_PREFIX = f"{PATCHES}/"


def learn_patches(images: np.ndarray, is_fitted: np.ndarray, value_range: Sequence[float]) -> dict[str, np.ndarray]:
    """What embeds the patches of images like these.

    Args:
        images: Shape (n, 1 or 3, height, width), of any type of numbers.
        is_fitted: Images that it is learned from, shape (n,), boolean.
        value_range: Lowest and highest possible value.

    Returns:
        mean (d,), whitening (d, d), atoms (n_atoms, d), embedding (n_atoms, n_directions), offset (n_directions,) and
        faintest (), the least variance of a patch that has a code, float32, their names preceded by "patches/".

    Raises:
        ValueError: if these are no images, the range is empty, or all images are blank.
    """
    check_four_axes(images, value_range, PATCHES)
    places = np.flatnonzero(is_fitted)
    places = places[evenly_spaced(len(places), LEARNED_IMAGES)]
    patches = torch.cat(
        [_patches(images[part], value_range) for part in np.split(places, range(_IMAGES, len(places), _IMAGES))]
    )
    grid = patches.reshape(-1, patches.shape[-1])
    sample = grid[torch.from_numpy(evenly_spaced(len(grid), _LEARNED_PATCHES))]
    variance = sample.square().sum(dim=1)
    faintest = _FAINT * variance.mean()
    sample = sample[variance > faintest]
    if not len(sample):
        raise ValueError(
            f"features: backbone '{PATCHES}' learns from edges, and all of {len(places)} images are blank; set "
            "features.backbone to null and features.beside_gradients to false for their pixels"
        )
    mean, whitening = _whitening(sample)
    arrays = {"mean": mean, "whitening": whitening, "faintest": faintest}
    arrays["atoms"] = _atoms(functional.normalize((sample - mean) @ whitening, dim=1))
    codes = _code_matrix([_codes(image, arrays) for image in patches], len(arrays["atoms"]))
    arrays["embedding"], arrays["offset"] = _embedding(codes)
    return {f"{_PREFIX}{name}": arrays[name].float().numpy() for name in _NAMES}


def patch_rows(images: np.ndarray, value_range: Sequence[float], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Embedded patches, averaged over cells, of every image by itself.

    Args:
        images: Shape (n, channels, height, width), of as many channels as those that were learned from.
        value_range: Lowest and highest possible value.
        arrays: What `learn_patches` gave, among others.

    Returns:
        Shape (n, 64 * n_directions), float32, in [-1, 1]; a blank image is a row of zeros.

    Raises:
        ValueError: if these are no such images, or the range is empty.
    """
    check_four_axes(images, value_range, PATCHES)
    learned = {name: torch.from_numpy(np.asarray(arrays[f"{_PREFIX}{name}"])) for name in _NAMES}
    expected = len(learned["mean"]) // _PATCH**2
    if images.shape[1] != expected:
        raise ValueError(f"features: patches were learned from images of {expected} channels, got {images.shape[1]}")
    rows = room((len(images), _CELLS**2 * learned["embedding"].shape[1]), np.float32)
    with _progress(len(images)) as count:
        for start in range(0, len(images), _IMAGES):
            patches = _patches(images[start : start + _IMAGES], value_range)
            # One image at a time: a product of other shape is rounded otherwise, and no row may depend on others.
            for place, image in enumerate(patches, start):
                rows[place] = _row(image, learned).numpy()
            count(len(patches))
    return rows


def _progress(n_images: int) -> AbstractContextManager[Callable[[int], object]]:
    """Show how far many images are; a few are seen before anybody asks."""
    if n_images < _SHOWN_IMAGES:
        return nullcontext(lambda _: None)
    return meter("features", "image", n_images, _in_words)


def _in_words(reading: Reading) -> str:
    return f"{reading.done} of {reading.total} images, {reading.left:.0f} s left"


def _patches(images: np.ndarray, value_range: Sequence[float]) -> torch.Tensor:
    """Patches without their means, shape (n, grid ** 2, d); zeros for those of one grey level."""
    small = resized_images(scaled_images(images, value_range), _SIDE)
    patches = functional.unfold(small, _PATCH, stride=_STRIDE).transpose(1, 2)
    mean = patches.mean(dim=2, keepdim=True)
    patches = patches - mean
    return patches * (patches.abs().amax(dim=2, keepdim=True) > _ROUNDING * mean.abs())


def _whitening(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and the symmetric matrix (d, d) that makes covariances alike, up to the ridge."""
    mean = patches.mean(dim=0)
    variances, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    return mean, axes @ torch.diag((variances + _RIDGE * variances.mean()).rsqrt()) @ axes.T


def _atoms(whitened: torch.Tensor) -> torch.Tensor:
    """Centres of spherical k-means, from evenly spaced patches on, shape (n_atoms, d)."""
    n_atoms = min(_ATOMS, max(_DIRECTIONS + 1, len(whitened) // _PATCHES_OF_ATOM), len(whitened))
    shuffled = whitened[torch.randperm(len(whitened), generator=torch.Generator().manual_seed(0))]
    atoms = shuffled[:n_atoms]
    for _ in range(_ROUNDS):
        nearest = torch.cat([(part @ atoms.T).argmax(dim=1) for part in shuffled.split(_CHUNK)])
        sums = torch.zeros_like(atoms).index_add_(0, nearest, shuffled)
        # An atom without patches stays where it was.
        atoms = functional.normalize(torch.where(sums.any(dim=1, keepdim=True), sums, atoms), dim=1)
    return atoms


def _codes(patches: torch.Tensor, learned: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms and their weights for each patch of an image, both (grid ** 2, n_kept); weights are 0 of faint patches."""
    whitened = functional.normalize((patches - learned["mean"]) @ learned["whitening"], dim=1)
    atoms = learned["atoms"]
    cosines, kept = (whitened @ atoms.T).topk(min(_KEPT, len(atoms)), dim=1)
    visible = patches.square().sum(dim=1, keepdim=True) > learned["faintest"]
    return kept, functional.normalize(cosines.clamp_min(0) * visible, dim=1)


def _code_matrix(codes: Sequence[tuple[torch.Tensor, torch.Tensor]], n_atoms: int) -> sparse.csr_matrix:
    """Codes of the patches of all images, one below the other, shape (n * grid ** 2, n_atoms)."""
    kept, weights = (torch.cat(parts).numpy() for parts in zip(*codes, strict=True))
    ends = np.arange(0, kept.size + 1, kept.shape[1])
    return sparse.csr_matrix((weights.ravel().astype(np.float64), kept.ravel(), ends), shape=(len(kept), n_atoms))


def _embedding(codes: sparse.csr_matrix) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions in which patches side by side are most alike, (n_atoms, n_directions), and the mean code in them."""
    from scipy.linalg import eigh

    n_atoms = codes.shape[1]
    mean = np.asarray(codes.mean(axis=0)).ravel()
    spread = (codes.T @ codes).toarray() / codes.shape[0] - np.outer(mean, mean)
    # Atoms that no code has would make it singular.
    spread[np.diag_indices(n_atoms)] += 1e-6 * np.trace(spread)
    n_directions = min(_DIRECTIONS, n_atoms)
    _, vectors = eigh(_side_by_side(codes, mean), spread, subset_by_index=[n_atoms - n_directions, n_atoms - 1])
    embedding = np.ascontiguousarray(vectors[:, ::-1])
    return torch.from_numpy(embedding), torch.from_numpy(mean @ embedding)


def _side_by_side(codes: sparse.csr_matrix, mean: np.ndarray) -> np.ndarray:
    """Covariance of the codes of two patches that touch, over pairs in all eight directions, (n_atoms, n_atoms)."""
    places = np.arange(codes.shape[0]).reshape(-1, _GRID, _GRID)
    pairs = (
        (places[:, :, :-1], places[:, :, 1:]),
        (places[:, :-1], places[:, 1:]),
        (places[:, :-1, :-1], places[:, 1:, 1:]),
        (places[:, :-1, 1:], places[:, 1:, :-1]),
    )
    products, sums, n_pairs = np.zeros((len(mean), len(mean))), np.zeros(len(mean)), 0
    for one, other in pairs:
        first, second = codes[one.ravel()], codes[other.ravel()]
        product = (first.T @ second).toarray()
        products += product + product.T
        sums += np.asarray(first.sum(axis=0) + second.sum(axis=0)).ravel()
        n_pairs += 2 * one.size
    # Patches at the border are in fewer pairs, so that the mean over pairs is another one.
    crossed = np.outer(sums, mean) / n_pairs
    return products / n_pairs - crossed - crossed.T + np.outer(mean, mean)


def _row(patches: torch.Tensor, learned: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The row of one image: embedded patches of length one, averaged over cells."""
    kept, weights = _codes(patches, learned)
    embedded = functional.embedding_bag(kept, learned["embedding"], per_sample_weights=weights, mode="sum")
    embedded = functional.normalize(embedded - learned["offset"], dim=1) * weights.any(dim=1, keepdim=True)
    maps = embedded.T.reshape(1, -1, _GRID, _GRID)
    return functional.adaptive_avg_pool2d(maps, _CELLS).flatten()
