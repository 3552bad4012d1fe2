"""N2D: rows on the map have what the mixture says there, others that of the row whose latent is nearest."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.mixture import GaussianMixture

from deep_clustering.methods import make_method
from deep_clustering.methods.tsne import fit_on_map
from deep_clustering.scores.metrics import accuracy, contingency


def test_well_separated_groups_are_found_and_rows_off_the_map_go_with_the_nearest(tiny_options, blobs, blob_labels):
    options = tiny_options("n2d", "vectors", n_clusters=3, epochs=20, batch_size=40, latent_dim=3, max_rows=60)
    fitted = make_method(options).fit(blobs)
    assert accuracy(contingency(fitted.predict(blobs), blob_labels, 3, 3)) == 1
    arrays = fitted.get_arrays()
    assert arrays["map"].shape == (60, 2)
    nearest = cdist(fitted.transform(blobs), arrays["rows"]).argmin(axis=1)
    np.testing.assert_array_equal(fitted.predict_proba(blobs), arrays["responsibilities"][nearest])


def test_a_map_of_equal_rows_has_a_mixture():
    places = np.repeat(np.array([[-3e3, 1.0], [2e3, -4.0], [5.0, 6e3]], dtype=np.float32), 8, axis=0)
    mixture = fit_on_map(places, 3, 2, 0)
    assert isinstance(mixture, GaussianMixture)
    groups = mixture.predict(places).reshape(3, 8)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0])) == 3
