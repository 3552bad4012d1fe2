"""A fitted method with its preparation, against the method itself."""

import numpy as np
import pytest
from kedro.io import DatasetError
from sklearn.datasets import load_digits

from deep_clustering.data.preparation import prepare
from deep_clustering.datasets import ModelDataset, PredictorDataset
from deep_clustering.inference.predictor import Assigner, PredictorOptions, make_predictor
from deep_clustering.methods import make_method, save_method

RAW = load_digits().images[:200, None].astype(np.uint8)
SPLIT = np.where(np.arange(200) < 150, 3, 2).astype(np.uint8)
OPTIONS = PredictorOptions(outlier_quantile=0.1, max_rows=50, data_set="numerals")


@pytest.fixture(scope="module")
def fitted(tiny_options, parameters):
    """Function: method to (estimator, its rows, predictor)."""
    card = {"name": "digits", "value_range": [0.0, 16.0], "sha256": {"samples": "0" * 64}}
    rows, preparation = prepare(RAW, SPLIT, card, {"terms": [], "idf": None}, parameters["features"])

    def fit(method):
        estimator = make_method(tiny_options(method)).fit(rows[:150])
        model = save_method(estimator)
        return (
            estimator,
            rows,
            make_predictor(
                model, preparation, estimator.history_, estimator.describe(rows).log_density, SPLIT, OPTIONS
            ),
        )

    made = {method: fit(method) for method in ("dcan", "neural_mixture", "kmeans", "gmm")}
    return made.__getitem__


@pytest.mark.parametrize("method", ["dcan", "neural_mixture", "kmeans", "gmm"])
def test_raw_rows_get_what_the_method_says_of_their_features(fitted, method):
    estimator, rows, predictor = fitted(method)
    table = Assigner(predictor).assign(RAW)
    assert table.dtypes.astype(str).to_dict() == {
        "cluster": "int64",
        "probability": "float64",
        "log_density": "float64",
        "is_outlier": "bool",
    }
    np.testing.assert_array_equal(table["cluster"], estimator.predict(rows))
    np.testing.assert_allclose(table["probability"], estimator.predict_proba(rows).max(axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "score"), [("dcan", ("pair_log_likelihood", "max")), ("neural_mixture", ("log_likelihood", "max"))]
)
def test_a_tenth_of_the_training_rows_are_outliers(fitted, method, score):
    estimator, rows, predictor = fitted(method)
    table = Assigner(predictor).assign(RAW)
    np.testing.assert_allclose(table["log_density"], estimator.log_density(rows), rtol=1e-5)
    assert table["is_outlier"][:150].sum() == 15
    np.testing.assert_array_equal(table["is_outlier"], estimator.log_density(rows) < predictor.threshold)
    assert predictor.score == (*score, float(estimator.history_[f"final_{score[0]}"]))


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_without_densities_there_are_no_outliers(fitted, method):
    predictor = fitted(method)[2]
    table = Assigner(predictor).assign(RAW)
    assert table["log_density"].isna().all()
    assert not table["is_outlier"].any()
    assert (predictor.threshold, predictor.score) == (None, None)


@pytest.mark.parametrize("method", ["dcan", "neural_mixture", "kmeans", "gmm"])
def test_one_row_alone_gets_what_it_gets_in_a_batch(fitted, method):
    assigner = Assigner(fitted(method)[2])
    batch = assigner.assign(RAW[:20])
    for index in (0, 7, 19):
        alone = assigner.assign(RAW[index : index + 1])
        assert alone["cluster"][0] == batch["cluster"][index]
        for column in ("probability", "log_density"):
            np.testing.assert_allclose(alone[column][0], batch[column][index], rtol=1e-4)


def test_a_file_changes_nothing(fitted, tmp_path):
    predictor = fitted("dcan")[2]
    stored = PredictorDataset(filepath=str(tmp_path / "predictor.safetensors"))
    stored.save(predictor)
    loaded = stored.load()
    assert loaded[2:] == predictor[2:]
    assert (loaded.model.method, loaded.model.options) == predictor.model[:2]
    assert loaded.preparation.to_plain() == predictor.preparation.to_plain()
    assert Assigner(loaded).assign(RAW).equals(Assigner(predictor).assign(RAW))


def test_a_model_of_a_machine_with_other_devices_runs_here(fitted):
    predictor = fitted("dcan")[2]
    moved = predictor._replace(model=predictor.model._replace(options={**predictor.model.options, "device": "cuda:7"}))
    assert Assigner(moved).assign(RAW[:3]).equals(Assigner(predictor).assign(RAW[:3]))


def test_other_files_are_no_predictors(fitted, tmp_path):
    path = str(tmp_path / "model.safetensors")
    ModelDataset(filepath=path).save(fitted("kmeans")[2].model)
    with pytest.raises(DatasetError, match="expected a predictor, got a safetensors file of something else"):
        PredictorDataset(filepath=path).load()
