"""Starts: each gives the partition of the method that it is named after, and refuses what that method refuses."""

import numpy as np
import pytest

from deep_clustering.methods import make_method
from deep_clustering.methods.starts import make_start

TSNE = {"perplexity": 8.0, "n_init": 3, "pca_dim": 5, "barnes_hut_rows": 1000}
STARTS = {
    "kmeans": ({"n_init": 3}, {"n_init": 3}),
    "ward": ({"max_rows": 50}, {"max_rows": 50}),
    "tsne_gmm": ({"map_rows": 50, **TSNE}, {"max_rows": 50, **TSNE}),
}


@pytest.mark.parametrize("kind", STARTS)
def test_a_start_is_the_partition_of_its_method(blobs, kind):
    of_start, of_method = STARTS[kind]
    partition = make_start({"kind": kind, "hold": 0.5, **of_start}).partition(blobs, 3, seed=4)
    method = make_method({"method": kind, "n_clusters": 3, "seed": 4, **of_method})
    np.testing.assert_array_equal(partition, method.fit(blobs).predict(blobs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perplexity": 0.5}, "start .*perplexity must be at least 1, got 0.5"),
        ({"map_rows": 1}, "start .*map_rows must be at least 2, got 1"),
        ({"hold": 2.0}, "start .*hold must be at least 0 and at most 1, got 2"),
        ({"kind": "tsne"}, r"start: unknown kind 'tsne' \(did you mean 'tsne_gmm'\?\)"),
    ],
)
def test_bad_options_are_refused_before_anything_is_fitted(changes, message):
    with pytest.raises(ValueError, match=message):
        make_start({"kind": "tsne_gmm", "hold": 0.5, "map_rows": 50, **TSNE} | changes)
