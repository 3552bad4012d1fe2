"""What holds for all views: randomness from the generator alone, pairs, dropped options, and no wait for a device."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from deep_clustering.training.rows import Rows
from deep_clustering.training.views import VIEWS, View, make_view, neighbour_table
from deep_clustering.training.views.image import Affine, Photo, PhotoCrops
from deep_clustering.training.views.neighbour import Neighbours
from deep_clustering.training.views.same import Same
from deep_clustering.training.views.vector import Dropout, Noise
from still_views import PLAIN_PHOTO, STILL, affine, generator, photo
from waits import DEVICE, DeviceGenerator, Waits

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).random((40, 3, 6, 6), dtype=np.float32)
VECTORS = IMAGES.reshape(40, -1) * (IMAGES.reshape(40, -1) > 0.5)
TABLE = (np.arange(40)[:, None] + [1, 2, 3]) % 40


def mapped(features: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "rows.npy", features)
    return np.load(folder / "rows.npy", mmap_mode="r")


WHERE: dict[str, Callable] = {
    "in memory": lambda features, _: features,
    "mapped": mapped,
    "sparse": lambda features, _: sparse.csr_matrix(features),
}

RANDOM = [
    photo(crop=0.3),
    photo(brightness=0.3),
    photo(contrast=0.3),
    affine(rotation=30.0),
    affine(translation=0.2),
    affine(scale=0.3),
    affine(shear=30.0),
    affine(size=6, rotation=15.0, translation=0.1, scale=0.1, shear=8.0),
    Dropout(rate=0.3),
    Noise(scale=0.1),
]


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_each_row_of_a_batch_has_its_own_draw(view):
    same = torch.rand(1, 1, 8, 8, generator=generator()).expand(20, 1, 8, 8)
    assert len(torch.unique(view(same, generator()), dim=0)) == 20


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_the_generator_decides_everything(view):
    rows = torch.rand(6, 1, 8, 8, generator=generator())
    copy, state = rows.clone(), torch.get_rng_state()
    source = generator(1)
    first, second = view(rows, source), view(rows, source)
    assert not torch.equal(first, second)
    again = generator(1)
    assert torch.equal(view(rows, again), first)
    assert torch.equal(view(rows, again), second)
    assert torch.equal(rows, copy)
    assert torch.equal(torch.get_rng_state(), state)


# Pairs


@pytest.mark.parametrize("view", RANDOM, ids=repr)
def test_a_pair_is_two_different_views_of_each_row(view):
    features = np.random.default_rng(0).random((30, 1, 8, 8), dtype=np.float32)
    rows, index = Rows(features, CPU), torch.tensor([4, 29, 0])
    pair = view.pair(rows, index, None, generator())
    assert pair.shape == (6, *view.output_shape((1, 8, 8)))
    assert not torch.equal(pair[:3], pair[3:])
    assert torch.equal(pair, view.pair(rows, index, None, generator()))


def test_a_pair_without_randomness_is_each_row_twice_in_order():
    pair = Noise(scale=0.0).pair(Rows(VECTORS, CPU), torch.tensor([4, 0, 2]), None, generator())
    np.testing.assert_array_equal(pair, VECTORS[[4, 0, 2, 4, 0, 2]])


@pytest.mark.parametrize("view", [Noise(scale=0.1), Dropout(rate=0.3), Neighbours()], ids=repr)
@pytest.mark.parametrize("where", ["mapped", "sparse"])
def test_it_does_not_matter_where_the_rows_lie(view, where, tmp_path):
    rows, elsewhere = (Rows(make(VECTORS, tmp_path), CPU) for make in (WHERE["in memory"], WHERE[where]))
    index = torch.tensor([4, 29, 0])
    pairs = [view.pair(some, index, neighbour_table(TABLE, 40, CPU), generator()) for some in (rows, elsewhere)]
    assert torch.equal(*pairs)


# What a device would see


def watched_epoch(view: View, rows: Rows, source: torch.Generator) -> Iterator[torch.Tensor]:
    """Pairs, and small views beside them, of all batches but the first, in which a view may make what it keeps."""
    table = neighbour_table(TABLE, len(rows), rows.place)
    batches = rows.batches(8, source)
    view.pair(rows, next(batches).place, table, source)
    for batch in batches:
        view.small(rows, batch.place, source)
        yield view.pair(rows, batch.place, table, source)


PHOTO = {
    "size": 4,
    "crop": 0.5,
    "flip": 0.5,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "greyscale": 0.2,
}
EVERY_KIND = [
    affine(size=4, rotation=15.0, translation=0.1, scale=0.1, shear=8.0),
    Photo(**PHOTO),
    PhotoCrops(**PHOTO, small_views=2, small_size=4, small_crop=0.3),
    Dropout(rate=0.3),
    Noise(scale=0.1),
    Neighbours(),
    Same(),
]
OF_EVERY_KIND = pytest.mark.parametrize(
    ("view", "where"),
    [
        pytest.param(view, where, id=f"{type(view).__name__}, {where}")
        for view in EVERY_KIND
        for where in WHERE
        if where != "sparse" or not isinstance(view, Affine | Photo)
    ],
)


def rows_for(view: View, where: str, folder: Path, device: torch.device) -> Rows:
    return Rows(WHERE[where](IMAGES if isinstance(view, Affine | Photo) else VECTORS, folder), device)


def test_every_kind_is_watched():
    assert {type(view) for view in EVERY_KIND} == set(VIEWS.values())


@OF_EVERY_KIND
def test_no_pair_waits_for_the_device(view, where, tmp_path):
    rows = rows_for(view, where, tmp_path, DEVICE)
    pairs = watched_epoch(view, rows, DeviceGenerator())
    with Waits():  # once: the order of the epoch, and what a view keeps
        first = next(pairs)
    with Waits() as waits:
        shapes = [first.shape, *(pair.shape for pair in pairs)]
    assert waits.found == []
    assert shapes == [(8 * view.n_views, *view.output_shape(rows[torch.arange(1)].shape[1:]))] * 4
    assert first.device == DEVICE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@OF_EVERY_KIND
def test_no_pair_waits_for_cuda(view, where, tmp_path):
    device = torch.device("cuda")
    rows = rows_for(view, where, tmp_path, device)
    pairs = watched_epoch(view, rows, torch.Generator(device).manual_seed(0))
    next(pairs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert [len(pair) for pair in pairs] == [8 * view.n_views] * 3
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Options


def test_make_view_gives_the_named_family():
    assert make_view({"kind": "affine", **STILL}) == affine()
    assert make_view({"kind": "dropout", "rate": 0.2}) == Dropout(rate=0.2)
    assert make_view({"kind": "noise", "scale": 1}) == Noise(scale=1.0)
    assert make_view({"kind": "photo", **PLAIN_PHOTO}) == photo()
    assert make_view({"kind": "neighbours"}) == Neighbours()


def test_a_single_view_is_only_for_methods_that_take_one():
    with pytest.raises(ValueError, match="kind 'same' is the row itself, once; this method learns from two views"):
        make_view({"kind": "same"})
    assert make_view({"kind": "same"}, takes_one=True) == Same()


@pytest.mark.parametrize(
    "view", [affine(rotation=40.0, translation=0.3, scale=0.5, shear=30.0), photo(**PHOTO)], ids=repr
)
def test_views_that_keep_the_range_keep_it(view):
    assert view.keeps_range
    views = view(torch.rand(50, 3, 6, 6, generator=generator()), generator(1))
    assert (views.min() >= 0, views.max() <= 1) == (True, True)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"^views: unknown kind 'nois' \(did you mean 'noise'\?\)$"):
        make_view({"kind": "nois", "scale": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "affine", **STILL, "padding": "border"}, "padding: border was dropped in 0.3.0; use reflection"),
        ({"kind": "affine", **STILL, "erase": 0.0}, "option 'erase' was dropped in 0.3.0; nothing is erased"),
        (
            {"kind": "dropout", "rate": 0.1, "reweight": 0.0},
            "option 'reweight' was dropped in 0.3.0; use a higher rate",
        ),
        ({"kind": "neighbours", "noise": 0.0}, "option 'noise' was dropped in 0.3.0; neighbours come without noise"),
        ({"kind": "radius_noise", "scale": 0.1}, "kind 'radius_noise' was dropped in 0.3.0; use neighbours or noise"),
    ],
)
def test_what_was_dropped_says_what_to_use_instead(options, message):
    with pytest.raises(ValueError, match=rf"^views.*: {message}"):
        make_view(options)


def test_views_that_are_made_directly_are_checked_as_well():
    with pytest.raises(ValueError, match=r"rate must be at least 0 and at most 0.99, got -1"):
        Dropout(rate=-1)
