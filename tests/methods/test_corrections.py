"""Clusters that are joined, parted and numbered anew, against what these words mean."""

import json

import numpy as np
import pytest

from deep_clustering.datasets import ModelDataset
from deep_clustering.methods import METHODS, cluster_names, load_method, make_method, note_rows, save_method
from deep_clustering.methods.corrections import Step, as_corrected
from deep_clustering.training.described import Described

# Responsibilities of three clusters; the last row is in cluster 2, though 0 and 1 together are likelier.
RESPONSIBILITIES = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.3, 0.3, 0.4]], dtype=np.float32)
LATENT = np.array([[0.0], [1.0], [5.0], [9.0]], dtype=np.float32)
SAID = Described(RESPONSIBILITIES.argmax(axis=1), RESPONSIBILITIES, LATENT, np.arange(4.0))


def test_joined_clusters_have_the_sum_of_their_responsibilities_and_one_number():
    said = Step([1, 1, 2], {}, {}, 3).apply(SAID)
    np.testing.assert_allclose(said.responsibilities[:, 1], RESPONSIBILITIES[:, :2].sum(axis=1))
    np.testing.assert_array_equal(said.responsibilities[:, 0], 0)
    np.testing.assert_array_equal(said.responsibilities[:, 2], RESPONSIBILITIES[:, 2])
    np.testing.assert_array_equal(said.assignments, [1, 1, 2, 1])
    np.testing.assert_array_equal(said.latent, LATENT)


def test_parts_of_a_cluster_share_its_rows_and_responsibilities_by_the_nearest_centre():
    said = Step([0, 1, 2], {2: [2, 3]}, {2: np.array([[4.0], [10.0]])}, 4).apply(SAID)
    np.testing.assert_array_equal(said.assignments, [0, 1, 2, 3])
    np.testing.assert_allclose(said.responsibilities[:, 2] + said.responsibilities[:, 3], RESPONSIBILITIES[:, 2])
    assert said.responsibilities[3, 3] == np.float32(0.4)
    assert said.responsibilities[3, 2] == 0


def test_numbers_that_are_gone_stay_columns():
    step = Step([5, 0, 5], {}, {}, 7)
    assert step.there([0, 1, 2]) == [0, 5]
    assert step.apply(SAID).responsibilities.shape == (4, 7)


@pytest.mark.parametrize("method", METHODS)
def test_a_changed_method_predicts_the_same_when_it_is_read_again(method, tiny_options, blobs, tmp_path):
    fitted = make_method(tiny_options(method, "vectors", n_clusters=3)).fit(blobs)
    before = fitted.describe(blobs)
    step = Step([0, 1, 1], {0: [0, 3]}, {0: before.latent[[0, 50]]}, 4)
    corrected = as_corrected(fitted).then(step, {1: "Tür"})
    model = note_rows(save_method(corrected), sha256="x", keys=np.arange(120), clusters=np.zeros(120), n_numbers=4)
    file = ModelDataset(filepath=str(tmp_path / "model.safetensors"))
    file.save(model)
    read = file.load()
    assert cluster_names(read) == {1: "Tür"}
    assert not [name for name in read.without_rows().arrays if name.startswith("rows/")]
    for one, other in zip(corrected.describe(blobs), load_method(read).describe(blobs), strict=True):
        np.testing.assert_array_equal(one, other)
    said = corrected.describe(blobs)
    np.testing.assert_allclose(said.responsibilities.sum(axis=1), before.responsibilities.sum(axis=1), rtol=1e-6)
    alone = np.concatenate([corrected.predict(blobs[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(alone, said.assignments[:20])


def test_only_names_leave_every_answer_as_it_was(tiny_options, blobs):
    fitted = make_method(tiny_options("kmeans", "vectors", n_clusters=3)).fit(blobs)
    named = as_corrected(fitted).then(Step([0, 1, 2], {}, {}, 3), {0: "a"})
    for one, other in zip(fitted.describe(blobs), named.describe(blobs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_arrays_is_json(tiny_options, blobs):
    fitted = make_method(tiny_options("kmeans", "vectors", n_clusters=3)).fit(blobs)
    model = save_method(as_corrected(fitted).then(Step([0, 0, 2], {}, {}, 3), {2: "b"}))
    assert json.loads(json.dumps(model.clusters)) == model.clusters
    assert save_method(load_method(model)).clusters == model.clusters
