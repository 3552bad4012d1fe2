"""What every method promises, over the table of methods, for images and for vectors."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import sparse

from deep_clustering.datasets import ModelDataset
from deep_clustering.methods import METHODS, Clusterer, is_curve, load_method, make_method, save_method
from deep_clustering.pipelines.namespaces import NAMED_CONFIGURATIONS, STAGED
from deep_clustering.scores.metrics import accuracy, contingency

DEEP = ("dcan", "neural_mixture")
AUTOENCODERS = ("autoencoder", "dec", "idec", "dcn", "vade", "dcgmm", "n2d")
VIEWED = (*DEEP, "dac", "lsdc", "cc", "kingdra")  # with views of the configuration
LITERATURE = (*AUTOENCODERS, "imsat", "aae", *VIEWED[2:])  # what both are compared with
NETWORKS = (*DEEP, *LITERATURE)  # with an encoder and restarts
TRAINED = (*NETWORKS, "temi", "turtle")  # through the training loop
DENSITIES = (*DEEP, "vade", "online_mixture")
ROWS = ("images", "vectors")
# Methods of which one kind of rows is enough: what they do with the other is their base class's, and tested there.
ONE_KIND = (
    dict.fromkeys(("dec", "idec", "dcn", "dcgmm", "n2d"), "vectors")
    | dict.fromkeys(("dac", "lsdc"), "images")
    | {"kingdra": "vectors"}
)


class Case(NamedTuple):
    """A fitted method with what it was fitted on."""

    method: str
    rows: str
    options: dict[str, Any]
    features: np.ndarray
    estimator: Clusterer


def n_clusters_of(rows: str) -> int:
    return 10 if rows == "images" else 3


def n_epochs_of(options: dict[str, Any], n_samples: int) -> int:
    if "steps" in options:  # as many passes as make so many steps
        return -(-options["steps"] // max(1, n_samples // options["batch_size"]))
    return options.get("epochs", 0)


def class_of(method: str) -> type:
    module, _, name = METHODS[method].partition(":")
    return getattr(import_module(module), name)


@pytest.fixture(scope="module")
def fitted(digits, blobs, tiny_options) -> Callable[[str, str], Case]:
    """Function (method, rows) that fits once."""

    @cache
    def fit(method: str, rows: str) -> Case:
        features = digits if rows == "images" else blobs
        options = tiny_options(method, rows, n_clusters=n_clusters_of(rows))
        return Case(method, rows, options, features, make_method(options).fit(features))

    return fit


CASES = [(method, rows) for method in METHODS for rows in ROWS if ONE_KIND.get(method, rows) == rows]


@pytest.fixture(params=CASES, ids="-".join)
def case(request, fitted) -> Case:
    return fitted(*request.param)


@pytest.fixture(params=[method for method, rows in CASES if rows == "images"])
def image_case(request, fitted) -> Case:
    return fitted(request.param, "images")


@pytest.fixture(params=METHODS)
def vector_case(request, fitted) -> Case:
    return fitted(request.param, "vectors")


@pytest.fixture(params=sorted(METHODS))
def method(request) -> str:
    return request.param


def outputs(estimator: Clusterer, features: np.ndarray) -> list[np.ndarray]:
    return [estimator.predict(features), estimator.predict_proba(features), estimator.transform(features)]


# The table itself


def test_every_method_has_its_options_in_the_parameters(parameters, method_names):
    blocks = {name: value for name, value in parameters.items() if isinstance(value, dict)}
    configured = {name: block["method"] for name, block in blocks.items() if "method" in block}
    assert set(configured) == {*method_names, *NAMED_CONFIGURATIONS, *STAGED}
    assert all(configured[name] == name for name in method_names)


def test_parameters_spell_out_exactly_the_fields(parameters, method):
    expected = {item.name for item in fields(class_of(method)) if item.init} | {"method"}
    assert set(parameters[method]) == expected


def test_configured_options_are_valid(parameters, method):
    estimator = make_method(parameters[method])
    assert type(estimator) is class_of(method)


@pytest.mark.parametrize("method", METHODS)
def test_a_range_of_numbers_of_clusters_is_refused_in_one_sentence_or_searched(parameters, method):
    options = parameters[method] | {"n_clusters": {"min": 2, "max": 5}}
    if method == "neural_mixture":
        assert make_method(options).n_clusters == {"min": 2, "max": 5}
        return
    expected = f"{method}: n_clusters must be one number, got the range {{'min': 2, 'max': 5}}; .* neural_mixture alone"
    with pytest.raises(ValueError, match=f"^{expected}$"):
        make_method(options)


def test_listing_the_methods_loads_no_heavy_library():
    code = (
        "import sys; from deep_clustering.methods import METHODS; "
        "print(*sorted({'torch', 'sklearn', 'kedro', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Fit and predict


def test_predict_gives_one_cluster_per_row(case):
    assignments = case.estimator.predict(case.features)
    assert assignments.shape == (len(case.features),)
    assert assignments.dtype == np.int64
    assert assignments.min() >= 0
    assert assignments.max() < n_clusters_of(case.rows)


def test_responsibilities_are_distributions_whose_mode_is_the_prediction(case):
    responsibilities = case.estimator.predict_proba(case.features)
    assert responsibilities.shape == (len(case.features), n_clusters_of(case.rows))
    assert responsibilities.dtype == np.float32
    assert (responsibilities >= 0).all()
    np.testing.assert_allclose(responsibilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(responsibilities.argmax(axis=1), case.estimator.predict(case.features))


def test_predict_responsibilities_latent_and_density_are_parts_of_one_description(case):
    found = case.estimator.describe(case.features)
    for part, whole in zip(found[:3], outputs(case.estimator, case.features), strict=True):
        np.testing.assert_array_equal(part, whole)
    log_density = case.estimator.log_density(case.features)
    assert (log_density is None) == (found.log_density is None) == (case.method not in DENSITIES)
    if found.log_density is not None:
        np.testing.assert_array_equal(found.log_density, log_density)
        assert log_density.shape == (len(case.features),)
        assert np.isfinite(log_density).all()


@pytest.mark.parametrize("method", TRAINED)
def test_a_description_is_one_pass_over_the_rows(fitted, method):
    case, passed = fitted(method, "vectors"), []
    layers = [module for module in vars(case.estimator).values() if isinstance(module, torch.nn.Module)]
    layers += list(getattr(case.estimator, "networks_", {}).values())[:1]
    handle = layers[0][0].register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    try:
        case.estimator.describe(case.features)
    finally:
        handle.remove()
    assert sum(passed) == len(case.features)


def test_transform_gives_one_finite_vector_per_row(case):
    latent = case.estimator.transform(case.features)
    assert latent.ndim == 2
    assert len(latent) == len(case.features)
    assert latent.dtype == np.float32
    assert np.isfinite(latent).all()


def test_history_has_a_column_entry_per_epoch_and_the_snapshots(case):
    history = case.estimator.history_
    n_epochs = n_epochs_of(case.options, len(case.features))
    columns = {name: column for name, column in history.items() if is_curve(name)}
    assert "epoch" in columns
    assert all(column.shape == (n_epochs,) and np.isfinite(column).all() for column in columns.values())
    np.testing.assert_array_equal(columns["epoch"], np.arange(1, n_epochs + 1))
    assert history["snapshot_epoch"].dtype == np.int64
    assert history["snapshot_assignments"].dtype == np.int16
    if case.method in TRAINED:
        np.testing.assert_array_equal(history["snapshot_epoch"], np.arange(n_epochs + 1))
        assert history["snapshot_assignments"].shape == (n_epochs + 1, len(case.features))
        np.testing.assert_array_equal(history["snapshot_assignments"][-1], case.estimator.predict(case.features))
    else:
        assert len(history["snapshot_epoch"]) == len(history["snapshot_assignments"]) == 0


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {"epochs": 3, "restarts": restarts}) for method in NETWORKS for restarts in (1, 3)),
        ("temi", {"epochs": 3}),
        ("turtle", {"steps": 9}),  # of 200 rows in batches of 64
    ],
)
def test_the_last_snapshot_is_the_clustering_whatever_is_recorded(tiny_options, digits, method, changes):
    options = tiny_options(method, record_every=2, **changes)
    estimator = make_method(options).fit(digits)
    np.testing.assert_array_equal(estimator.history_["snapshot_epoch"], [0, 2, 3])
    np.testing.assert_array_equal(estimator.history_["snapshot_assignments"][-1], estimator.predict(digits))
    if changes.get("restarts") != 1:
        candidates = estimator.history_["candidate_assignments"]
        best = estimator.history_["candidate_scores"].argmax()
        np.testing.assert_array_equal(candidates[best], estimator.predict(digits))


def test_fit_returns_the_estimator_and_may_be_repeated_on_rows_of_another_shape(case, digits, blobs):
    other = np.ascontiguousarray(digits[:40].reshape(40, -1) if case.rows == "vectors" else digits[:60, :, ::-1])
    options = case.options | {"n_clusters": 3}
    used, fresh = make_method(options), make_method(options)
    assert used.fit(other) is used
    used.fit(case.features)
    fresh.fit(case.features)
    for again, once in zip(outputs(used, case.features), outputs(fresh, case.features), strict=True):
        np.testing.assert_array_equal(again, once)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(TRAINED)))
def test_well_separated_groups_are_found_by_every_baseline(blobs, blob_labels, tiny_options, method):
    assignments = make_method(tiny_options(method, "vectors", n_clusters=3)).fit(blobs).predict(blobs)
    assert accuracy(contingency(assignments, blob_labels, 3, 3)) == 1


# Determinism and purity


def test_same_seed_gives_the_same_result_whatever_the_global_random_state(case):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global state is what is tested
    again = make_method(case.options).fit(case.features)
    for first, second in zip(outputs(case.estimator, case.features), outputs(again, case.features), strict=True):
        np.testing.assert_array_equal(first, second)


def test_fit_and_predict_leave_the_global_random_states_alone(case):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    make_method(case.options).fit(case.features).predict(case.features)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.parametrize("method", TRAINED)
def test_restarts_and_loading_leave_the_global_random_state_alone(tiny_options, blobs, method):
    before = torch.get_rng_state()
    several = {"restarts": 2} if method in NETWORKS else {"heads": 3}
    fitted = make_method(tiny_options(method, "vectors", n_clusters=3, **several)).fit(blobs)
    assert torch.equal(torch.get_rng_state(), before)
    load_method(save_method(fitted))
    assert torch.equal(torch.get_rng_state(), before)


def test_prediction_changes_nothing_and_repeats(case):
    learned = {name: array.copy() for name, array in case.estimator.get_arrays().items()}
    first = outputs(case.estimator, case.features)
    for before, after in zip(first, outputs(case.estimator, case.features), strict=True):
        np.testing.assert_array_equal(before, after)
    for name, array in case.estimator.get_arrays().items():
        np.testing.assert_array_equal(array, learned[name])


def test_a_row_alone_is_predicted_as_in_any_batch(case):
    together = case.estimator.predict(case.features)
    responsibilities = case.estimator.predict_proba(case.features)
    for row in range(0, len(case.features), 7):
        alone = case.features[row : row + 1]
        assert case.estimator.predict(alone) == together[row]
        np.testing.assert_allclose(case.estimator.predict_proba(alone)[0], responsibilities[row], atol=1e-4)
    order = np.random.default_rng(0).permutation(len(together))[:50]
    np.testing.assert_array_equal(case.estimator.predict(case.features[order]), together[order])


@pytest.mark.parametrize("method", ["ward", "tsne_gmm"])
def test_equal_training_rows_are_predicted_alone_as_in_any_batch(tiny_options, method):
    distinct = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    features = np.repeat(distinct, 3, axis=0)
    options = tiny_options(method, "vectors", n_clusters=60 if method == "ward" else 10)
    if method == "tsne_gmm":
        options |= {"perplexity": 3.0, "n_init": 3}
    estimator = make_method(options).fit(features)
    together = estimator.predict(features)
    alone = np.concatenate([estimator.predict(row[None]) for row in features])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(estimator.predict(features[:-1]), together[:-1])


def test_input_is_untouched(case):
    features = case.features.copy()
    estimator = make_method(case.options).fit(features)
    outputs(estimator, features)
    np.testing.assert_array_equal(features, case.features)


def test_what_was_learned_does_not_depend_on_the_callers_array_afterwards(vector_case):
    features = vector_case.features.copy()
    estimator = make_method(vector_case.options).fit(features)
    rows = vector_case.features[:20]
    before = outputs(estimator, rows)
    features[:] = 0
    for first, second in zip(before, outputs(estimator, rows), strict=True):
        np.testing.assert_array_equal(first, second)


def test_double_precision_rows_are_accepted(case):
    features = case.features.astype(np.float64)
    assert make_method(case.options).fit(features).predict(features).shape == (len(features),)
    np.testing.assert_array_equal(case.estimator.predict(features), case.estimator.predict(case.features))


def test_what_is_said_of_double_precision_rows_is_in_single_precision(vector_case):
    described = vector_case.estimator.describe(vector_case.features.astype(np.float64))
    assert described.assignments.dtype == np.int64
    assert {part.dtype for part in described[1:4] if part is not None} == {np.dtype(np.float32)}


def test_logarithms_of_responsibilities_are_in_double_precision(vector_case):
    described = vector_case.estimator.describe(vector_case.features)
    logs = described.log_responsibilities
    if logs is not None:
        assert logs.dtype == np.float64
        np.testing.assert_allclose(np.exp(logs), described.responsibilities, atol=1e-5)


@pytest.mark.parametrize("factor", [1e3, 1e19, 1e30])
@pytest.mark.parametrize("method", TRAINED)
def test_responsibilities_of_rows_far_from_everything_are_distributions(tiny_options, blobs, method, factor):
    fitted = make_method(tiny_options(method, "vectors", n_clusters=3)).fit(blobs)
    described = fitted.describe(blobs * np.float32(factor))
    np.testing.assert_allclose(described.responsibilities.sum(axis=1), 1, rtol=1e-5)
    assert described.log_density is None or not np.isnan(described.log_density).any()


def test_memory_map_gives_the_same_as_memory(case, tmp_path):
    np.save(tmp_path / "features.npy", case.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    estimator = make_method(case.options).fit(mapped)
    np.testing.assert_array_equal(estimator.predict(mapped), case.estimator.predict(case.features))


def test_sparse_rows_give_the_same_as_dense_ones(vector_case):
    features = np.where(np.abs(vector_case.features) < 0.3, 0, vector_case.features)
    matrix = sparse.csr_matrix(features)
    copy = matrix.copy()
    estimators = [make_method(vector_case.options).fit(rows) for rows in (features, matrix)]
    for dense, thin in zip(outputs(estimators[0], features), outputs(estimators[1], matrix), strict=True):
        np.testing.assert_array_equal(thin, dense)
    np.testing.assert_array_equal(estimators[1].predict(features), estimators[0].predict(matrix))
    assert (matrix != copy).nnz == 0
    with pytest.raises(ValueError, match=f"^{vector_case.method}: each row must have .*, got"):
        estimators[1].predict(matrix[:, :3])


def neighbours_of(features: np.ndarray, k: int) -> np.ndarray:
    squares = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    return squares.argsort(axis=1)[:, 1 : k + 1]


def test_neighbours_may_be_given_to_every_method(vector_case):
    neighbours = neighbours_of(vector_case.features, 4)
    copy = neighbours.copy()
    estimator = make_method(vector_case.options).fit(vector_case.features, neighbours)
    # The configured views have no use for them.
    np.testing.assert_array_equal(
        estimator.predict(vector_case.features), vector_case.estimator.predict(vector_case.features)
    )
    np.testing.assert_array_equal(neighbours, copy)


@pytest.mark.parametrize("name", VIEWED)
def test_neighbour_views_need_and_use_the_neighbours(tiny_options, blobs, name):
    options = tiny_options(name, "vectors", n_clusters=3, views={"kind": "neighbours"})
    strangers = np.random.default_rng(0).integers(len(blobs), size=(len(blobs), 4))
    near, far = (make_method(options).fit(blobs, table) for table in (neighbours_of(blobs, 4), strangers))
    assert near.predict(blobs).shape == (len(blobs),)
    assert any((near.history_[name] != far.history_[name]).any() for name in near.history_ if is_curve(name))
    for table in (None, np.zeros((len(blobs), 0), dtype=np.int64)):
        with pytest.raises(ValueError, match=r"views \(neighbours\): expected the neighbours of every row, got none"):
            make_method(options).fit(blobs, table)


def test_fewer_rows_than_a_batch(tiny_options, digits, method):
    features = digits[:30]
    options = tiny_options(method, n_clusters=3)
    assignments = make_method(options).fit(features).predict(features)
    assert assignments.shape == (30,)
    assert len(features) < options.get("batch_size", 64)


# Saving


def test_saved_and_loaded_method_predicts_the_same(case, tmp_path):
    dataset = ModelDataset(filepath=str(tmp_path / "model.safetensors"))
    dataset.save(save_method(case.estimator))
    model = dataset.load()
    assert model.method == case.method
    assert {"method": case.method} | model.options == case.options
    loaded = load_method(model)
    np.testing.assert_array_equal(loaded.predict(case.features), case.estimator.predict(case.features))
    for before, after in zip(outputs(case.estimator, case.features), outputs(loaded, case.features), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-5)  # another memory layout rounds otherwise
    for name, array in loaded.get_arrays().items():
        np.testing.assert_array_equal(array, case.estimator.get_arrays()[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_that_do_not_fit_the_options_are_refused(tiny_options, blobs, name):
    model = save_method(make_method(tiny_options(name, "vectors", n_clusters=3)).fit(blobs))
    encoder = model.options["encoder"] | {"hidden": [17]}
    with pytest.raises(ValueError, match="encoder: the saved weights do not fit the network"):
        load_method(model._replace(options=model.options | {"encoder": encoder}))


# Refusals


def with_value(features: np.ndarray, row: int, value: float) -> np.ndarray:
    changed = features.copy()
    changed.reshape(len(changed), -1)[row, 0] = value
    return changed


BAD_FEATURES = {
    "nan": (lambda x: with_value(x, 5, np.nan), "must be finite, got NaN or infinity first in row 5"),
    "infinity": (lambda x: with_value(x, 7, -np.inf), "must be finite, got NaN or infinity first in row 7"),
    "few distinct": (lambda x: np.repeat(x[:2], 20, axis=0), "number of distinct rows, got 3 for 40 rows of which 2"),
    "constant": (lambda x: np.repeat(x[:1], 20, axis=0), r"all 20 rows are equal \(constant features\)"),
    "too few rows": (lambda x: x[:2], "n_clusters must be at most the number of rows, got 3 for 2 rows"),
    "no rows": (lambda x: x[:0], r"must not be empty, got shape \(0, 1, 8, 8\)"),
    "bytes": (lambda x: (x * 255).astype(np.uint8), "must be a float32 array or CSR matrix, got .*uint8"),
    "integers": (lambda x: x.astype(np.int64), "must be a float32 array or CSR matrix, got .*int64"),
    "half precision": (lambda x: x.astype(np.float16), "must be a float32 array or CSR matrix, got .*float16"),
    "list": (lambda x: x.tolist(), "must be a float32 array or CSR matrix, got .*list"),
    "tensor": (lambda x: torch.from_numpy(x.copy()), "must be a float32 array or CSR matrix, got"),
    "one axis": (lambda x: x.reshape(-1), r"must have shape \(n_samples, n_features\) or .*got \(12800,\)"),
    "three axes": (lambda x: x[:, 0], r"must have shape \(n_samples, n_features\) or .*got \(200, 8, 8\)"),
}


@pytest.mark.parametrize("bad", BAD_FEATURES)
def test_fit_refuses_bad_features(tiny_options, digits, method, bad):
    change, message = BAD_FEATURES[bad]
    with pytest.raises(ValueError, match=f"^{method}: .*{message}"):
        make_method(tiny_options(method, n_clusters=3)).fit(change(digits))


@pytest.mark.parametrize("bad", sorted(set(BAD_FEATURES) - {"constant", "few distinct", "too few rows"}))
def test_predict_refuses_bad_features(image_case, digits, bad):
    change, message = BAD_FEATURES[bad]
    estimator = image_case.estimator
    for predict in (estimator.predict, estimator.predict_proba, estimator.transform):
        with pytest.raises(ValueError, match=f"^{image_case.method}: .*{message}"):
            predict(change(digits))


def test_predict_refuses_rows_of_another_shape(case):
    with pytest.raises(ValueError, match=f"^{case.method}: each row must have .*, got"):
        case.estimator.predict(np.zeros((4, 7), dtype=np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_clusters": 1}, "n_clusters must be at least 2, got 1"),
        ({"n_clusters": 0}, "n_clusters must be at least 2, got 0"),
        ({"n_clusters": -3}, "n_clusters must be at least 2, got -3"),
        ({"n_clusters": "many"}, "'n_clusters' got 'many'"),
        ({"n_clusters": 2.5}, "'n_clusters' got 2.5"),
        ({"n_clusters": None}, "'n_clusters' got None"),
        ({"n_cluster": 3}, "unknown option 'n_cluster' .*did you mean 'n_clusters'"),
        ({"n_clusters": "many", "colour": 1}, "unknown option 'colour'.*'n_clusters' got 'many'"),
    ],
)
def test_bad_options_of_all_methods(tiny_options, method, changes, message):
    with pytest.raises(ValueError, match=f"^{method}: .*{message}"):
        make_method(tiny_options(method) | changes)


def test_each_option_is_needed(tiny_options, method):
    options = tiny_options(method)
    for name in set(options) - {"method"}:
        with pytest.raises(ValueError, match=f"^{method}: missing option '{name}'"):
            make_method({key: value for key, value in options.items() if key != name})


@pytest.mark.parametrize("method", [*AUTOENCODERS, "aae"])
def test_a_model_of_before_there_were_views_predicts_as_then(tiny_options, blobs, method):
    fitted = make_method(tiny_options(method, "vectors", n_clusters=3, views={"kind": "same"})).fit(blobs)
    model = save_method(fitted)
    del model.options["views"]
    np.testing.assert_array_equal(load_method(model).predict(blobs), fitted.predict(blobs))


def test_unknown_method_names_the_nearest_or_all(method_names):
    with pytest.raises(ValueError, match=r"unknown method 'dcam' \(did you mean 'dcan'\?\)"):
        make_method({"method": "dcam"})
    with pytest.raises(ValueError, match=f"unknown method 'xyz' .known: {', '.join(method_names)}"):
        make_method({"method": "xyz"})
    with pytest.raises(ValueError, match="unknown method"):
        make_method({})


NETWORK_OPTIONS = [
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
    ({"record_every": 0}, "record_every must be at least 1, got 0"),
    ({"views": {"kind": "affin"}}, r"views: unknown kind 'affin' \(did you mean 'affine'\?\)"),
    ({"views": {"kind": "noise"}}, r"views \(noise\): missing option 'scale'"),
    ({"views": {"scale": 1}}, "views: expected a mapping with 'kind'"),
    ({"views": "noise"}, "'views' got 'noise'"),
    ({"encoder": {"kind": "mlp", "hidden": [0]}}, r"encoder \(mlp\): hidden must be at least 1, got 0"),
    ({"encoder": {"kind": "transformer"}}, "encoder: unknown kind 'transformer'"),
]
LITERATURE_OPTIONS = [
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
    ({"record_every": 0}, "record_every must be at least 1, got 0"),
    ({"restarts": 0}, "restarts must be at least 1, got 0"),
    ({"learning_rate": -1.0}, "learning_rate must be at least 0 and at most 10, got -1"),
    ({"precision": "fp16"}, r"precision got 'fp16' \(did you mean"),
    ({"encoder": {"kind": "transformer"}}, "encoder: unknown kind 'transformer'"),
    ({"views": {"kind": "noise"}}, "unknown option 'views'"),
]
# Those of a base class are asked of one method that has it.
VIEWED_OPTIONS = [
    *LITERATURE_OPTIONS[:-1],
    ({"views": {"kind": "affin"}}, r"views: unknown kind 'affin' \(did you mean 'affine'\?\)"),
]
AUTOENCODER_OPTIONS = [
    *VIEWED_OPTIONS,
    ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
    ({"decoder": [0]}, "decoder must be at least 1, got 0"),
    ({"pretraining": 20}, "pretraining must be at least 0 and at most 1, got 20"),
    ({"n_init": 0}, "n_init must be at least 1, got 0"),
]
BAD_OPTIONS = {
    "dcan": [
        *NETWORK_OPTIONS,
        ({"latent_dim": 1}, "latent_dim must be at least 2, got 1"),
        ({"whitening_epsilon": -0.1}, "whitening_epsilon must be at least 0 and at most 1, got -0.1"),
        ({"instance_noise": -1.0}, "instance_noise must be at least 0, got -1"),
        ({"instance_noise": float("nan")}, "instance_noise must be at least 0, got nan"),
        ({"clustering": "kmeans"}, "option 'clustering' was dropped in 0.3.0"),
        ({"loss": "adverserial"}, r"loss got 'adverserial' \(did you mean 'adversarial'\?\)"),
        ({"conditioning": "kway"}, r"conditioning got 'kway' \(did you mean 'k_way'\?\)"),
        ({"conditioning": "none", "discriminator_hidden": []}, "discriminator_hidden must not be empty with condit"),
        (
            {"loss": "gaussian_kl", "instance_noise": 0.0},
            "gaussian_kl needs clusters of some width, got instance_noise: 0",
        ),
        ({"positives": "mean"}, "option 'positives' was dropped in 0.3.0"),
        ({"conditioning": "projection"}, "conditioning: projection was dropped in 0.3.0; use k_way"),
        ({"optimiser": "adamw"}, r"optimiser got 'adamw' \(did you mean 'adam'\?\)"),
        ({"momentum": 1.0}, "momentum must be at least 0 and at most 0.9999, got 1"),
        ({"precision": "fp16"}, r"precision got 'fp16' \(did you mean"),
        ({"n_init": 0}, "n_init must be at least 1, got 0"),
        ({"variance_floor": 0.0}, "variance_floor must be at least 1e-06 and at most 1, got 0"),
        ({"final_iterations": 0}, "final_iterations must be at least 1, got 0"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"reconstruction_weight": 0.0}, "option 'reconstruction_weight' was dropped in 0.3.0"),
        ({"decoder_hidden": [16]}, "option 'decoder_hidden' was dropped in 0.3.0"),
        (
            {"start": {"kind": "kmeans", "hold": 2, "n_init": 1}},
            r"start \(kmeans\): hold must be at least 0 and at most 1, got 2",
        ),
        ({"queue_size": 599}, "queue_size must be at least 600 .the paper's bound.*got 599"),
        ({"latent_dim": 800, "queue_size": 800}, "queue_size must be .*above latent_dim, got 800"),
        ({"encoder_learning_rate": -1.0}, "encoder_learning_rate must be at least 0 and at most 10, got -1"),
        ({"discriminator_learning_rate": 11}, "discriminator_learning_rate must be .*at most 10, got 11"),
        ({"discriminator_hidden": [0]}, "discriminator_hidden must be at least 1, got 0"),
        ({"whitening": "perhaps"}, "'whitening' got 'perhaps'"),
        ({"discriminator_hidden": 16}, "'discriminator_hidden' got 16"),
    ],
    "neural_mixture": [
        *NETWORK_OPTIONS,
        ({"density": "sigmod"}, r"density got 'sigmod' \(did you mean 'sigmoid'\?\)"),
        ({"density_scale": 0.0}, "density_scale must be at least 0.001, got 0.0"),
        ({"mixing": "fixed"}, r"mixing got 'fixed' \(known: learned, neutral, uniform\)"),
        ({"mixing_momentum": 1.5}, "mixing_momentum must be at least 0 and at most 1, got 1.5"),
        ({"mixing_floor": -0.5}, "mixing_floor must be at least 0 and at most 1, got -0.5"),
        ({"learning_rate": float("nan")}, "learning_rate must be at least 0 and at most 10, got nan"),
        ({"weight_decay": 2.0}, "weight_decay must be at least 0 and at most 1, got 2"),
        ({"calibration": "none"}, "option 'calibration' was dropped in 0.3.0"),
    ],
    "temi": [
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"n_neighbours": 0}, "n_neighbours must be at least 1, got 0"),
        ({"hidden": 0, "bottleneck": 0}, "hidden must be at least 1, got 0; bottleneck must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be at least 0.001, got 0"),
        ({"beta": 0.0}, "beta must be above 0 and at most 1, got 0"),
        ({"share_momentum": 1.1}, "share_momentum must be at least 0 and at most 1, got 1.1"),
        ({"teacher_momentum": -0.1}, "teacher_momentum must be at least 0 and at most 1, got -0.1"),
        ({"frozen_epochs": -1}, "frozen_epochs must be at least 0, got -1"),
        ({"warmup": 20}, "warmup must be at least 0 and at most 1, got 20"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 0 and at most 10, got -1"),
        ({"precision": "fp16"}, r"precision got 'fp16' \(did you mean"),
        ({"restarts": 2}, "unknown option 'restarts'"),
    ],
    "turtle": [
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"spaces": [3, 0]}, "spaces must be at least 1, got 0"),
        ({"entropy_weight": -1.0}, "entropy_weight must be at least 0, got -1"),
        ({"inner_steps": 0}, "inner_steps must be at least 1, got 0"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate must be above 0 and at most 10, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"learning_rate": 11}, "learning_rate must be at least 0 and at most 10, got 11"),
        ({"record_every": 0}, "record_every must be at least 1, got 0"),
        ({"epochs": 3}, "unknown option 'epochs'"),
    ],
    "autoencoder": [
        *AUTOENCODER_OPTIONS,
        ({"pull": -0.1}, "pull must be at least 0, got -0.1"),
        ({"neighbour_weight": -0.1}, "neighbour_weight must be at least 0, got -0.1"),
        ({"near": 0}, "near must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
    ],
    "dec": AUTOENCODER_OPTIONS,
    "idec": [*AUTOENCODER_OPTIONS, ({"clustering_weight": -1.0}, "clustering_weight must be at least 0, got -1")],
    "dcn": [
        *AUTOENCODER_OPTIONS,
        ({"pull": -0.1}, "pull must be at least 0, got -0.1"),
        ({"first_count": -1}, "first_count must be at least 0, got -1"),
    ],
    "imsat": [
        *LITERATURE_OPTIONS,
        ({"perturbation": "virtual"}, r"perturbation got 'virtual' \(known: adversarial, random\)"),
        ({"radius": -1.0}, "radius must be at least 0, got -1"),
        ({"n_neighbours": 0}, "n_neighbours must be at least 1, got 0"),
        ({"trial_step": 0.0}, "trial_step must be above 0, got 0"),
        ({"information_weight": -1.0}, "information_weight must be at least 0, got -1"),
        ({"balance_weight": -1.0}, "balance_weight must be at least 0, got -1"),
    ],
    "vade": [
        *AUTOENCODER_OPTIONS,
        ({"likelihood": "bernouli"}, r"likelihood got 'bernouli' \(did you mean 'bernoulli'\?\)"),
        ({"noise": 0.0}, "noise must be above 0, got 0"),
    ],
    "dcgmm": [({"pull": -0.1}, "pull must be at least 0, got -0.1")],
    "n2d": [
        ({"pretraining": 1.0}, "unknown option 'pretraining'"),
        ({"perplexity": 0.5}, "perplexity must be at least 1, got 0.5"),
        ({"max_rows": 9}, "max_rows must be at least n_clusters, got 9 and 10"),
    ],
    "dac": [
        ({"upper": 1.1}, "upper must be above 0 and at most 1, got 1.1"),
        ({"upper": 0.4}, "lower must be at most upper, got 0.455 and 0.4"),
        ({"growth": 0.0}, "growth must be above 0 and at most 1, got 0"),
    ],
    "lsdc": [
        ({"neighbours": 0}, "neighbours must be at least 1, got 0"),
        ({"consistency_weight": -1.0}, "consistency_weight must be at least 0, got -1"),
        ({"ramp": 2}, "ramp must be at least 0 and at most 1, got 2"),
    ],
    "cc": [
        *VIEWED_OPTIONS,
        ({"views": {"kind": "same"}}, "views: kind 'same' is the row itself, once"),
        ({"projection": []}, "projection"),
        ({"row_temperature": 0.0}, "row_temperature must be at least 0.01, got 0"),
        ({"column_temperature": 0.0}, "column_temperature must be at least 0.01, got 0"),
    ],
    "aae": [
        ({"style_dim": 0}, "style_dim must be at least 1, got 0"),
        ({"decoder": [0]}, "decoder must be at least 1, got 0"),
        ({"discriminators": [0]}, "discriminators must be at least 1, got 0"),
        ({"adversarial_learning_rate": 11.0}, "adversarial_learning_rate must be .*at most 10, got 11"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
    ],
    "kingdra": [
        ({"members": 1}, "members must be at least 2, got 1"),
        ({"round_epochs": 0}, "round_epochs must be at least 1, got 0"),
        ({"certainty": 1.0}, "certainty must be at least 0 and below 1, got 1"),
        ({"most_shared": 2}, "most_shared must be below members, got 2 and 2"),
        ({"information_weight": -1.0}, "information_weight must be at least 0, got -1"),
        ({"balance_weight": -1.0}, "balance_weight must be at least 0, got -1"),
    ],
    "online_mixture": [
        ({"components_per_cluster": 0}, "components_per_cluster must be at least 1, got 0"),
        ({"pca_dim": -1}, "pca_dim must be at least 0, got -1"),
        ({"novelty": 0.0}, "novelty must be above 0, got 0"),
        ({"memory": 0.0}, "memory must be above 0 and at most 1, got 0"),
        ({"passes": 0}, "passes must be at least 1, got 0"),
        ({"prior_rows": 0.0}, "prior_rows must be above 0, got 0"),
    ],
    "kmeans": [({"n_init": 0}, "n_init must be at least 1, got 0")],
    "gmm": [
        ({"n_init": 0}, "n_init must be at least 1, got 0"),
        ({"covariance": "ful"}, r"covariance got 'ful' \(did you mean 'full'\?\)"),
        ({"regularisation": -1e-3}, "regularisation must be at least 0, got -0.001"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
    ],
    "ward": [({"n_clusters": True}, "n_clusters must be at least 2")],
    "tsne_gmm": [
        ({"n_init": 0}, "n_init must be at least 1, got 0"),
        ({"perplexity": 0.5}, "perplexity must be at least 1, got 0.5"),
    ],
}


def test_the_table_of_bad_options_knows_every_method():
    assert set(BAD_OPTIONS) == set(METHODS)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [(name, *row) for name, rows in BAD_OPTIONS.items() for row in rows],
    ids=lambda value: str(value)[:40],
)
def test_bad_options_of_one_method(tiny_options, name, changes, message):
    with pytest.raises(ValueError, match=f"^{name}: .*{message}"):
        make_method(tiny_options(name) | changes)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_unknown_device_is_refused(tiny_options, digits, name, device):
    with pytest.raises(ValueError, match=f"device: expected 'auto', 'cpu' or a device of this machine, got '{device}'"):
        make_method(tiny_options(name, device=device)).fit(digits)


@pytest.mark.parametrize("name", VIEWED)
@pytest.mark.parametrize("wrong", [lambda table: table[:, 0], lambda table: table.astype(float)])
def test_neighbours_that_are_no_table_of_integers_are_refused(tiny_options, blobs, name, wrong):
    table = np.arange(len(blobs))[:, None]
    with pytest.raises(ValueError, match=r"neighbours: expected integers of shape \(n_samples, k\), got (int|float)64"):
        make_method(tiny_options(name, "vectors", n_clusters=3)).fit(blobs, wrong(table))


@pytest.mark.parametrize("name", VIEWED)
def test_image_views_and_networks_refuse_vectors(tiny_options, blobs, name):
    with pytest.raises(ValueError, match=r"affine views need images .* got rows of \(5,\)"):
        make_method(tiny_options(name)).fit(blobs)
    options = tiny_options(name, views={"kind": "noise", "scale": 0.1})
    with pytest.raises(ValueError, match=r"encoder \(conv\): expected images .* got rows of \(5,\)"):
        make_method(options).fit(blobs)


# TEMI's heads bring whatever they get to unit length, and VaDE and DC-GMM see rows in the unit of their noise.
@pytest.mark.parametrize("name", [*(name for name in NETWORKS if name not in ("vade", "dcgmm")), "turtle"])
def test_training_that_overflows_stops_with_method_epoch_and_term(tiny_options, blobs, name):
    features = blobs.copy()
    features[:, 0] = np.where(np.arange(len(blobs)) % 2, 3e38, -3e38)
    with pytest.raises((FloatingPointError, ValueError), match=name):
        make_method(tiny_options(name, "vectors", n_clusters=3)).fit(features)


FORMER = {
    "dcan": {"clustering": "kmeans", "positives": "mean", "reconstruction_weight": 0.0, "decoder_hidden": [256]},
    "neural_mixture": {"calibration": "none"},
}
YOUNGER = {"dcan": {"compile"}, "neural_mixture": {"compile", "estimate_noise", "representation", "weight_prior"}}


@pytest.mark.parametrize("method", FORMER)
def test_a_model_of_the_version_before_is_read_where_what_is_gone_had_no_effect(method, tiny_options, digits):
    estimator = make_method(tiny_options(method)).fit(digits)
    saved = save_method(estimator)
    views = {**saved.options["views"], "erase": 0.0}
    start = {**saved.options["start"], "components_per_cluster": 5, "epochs": 0.5, "core": 0.6}
    then = {name: value for name, value in saved.options.items() if name not in YOUNGER[method]}
    former = saved._replace(options={**then, **FORMER[method], "views": views, "start": start})
    np.testing.assert_array_equal(load_method(former).predict(digits), estimator.predict(digits))


@pytest.mark.parametrize(
    ("method", "gone"),
    [
        ("dcan", {"reconstruction_weight": 0.5, "decoder_hidden": [256]}),
        ("dcan", {"clustering": "gmm"}),
        ("neural_mixture", {"calibration": "agreement"}),
    ],
)
def test_a_model_of_the_version_before_is_refused_where_it_had_one(method, gone, tiny_options, digits):
    saved = save_method(make_method(tiny_options(method)).fit(digits))
    with pytest.raises(ValueError, match=f"option '{next(iter(gone))}' was dropped in 0.3.0"):
        load_method(saved._replace(options={**saved.options, **gone}))
