"""Logged models of images, texts and a backbone, loaded where the project is not."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from command_line import command
from deep_clustering.data.preparation import prepare
from deep_clustering.data.sources.tfidf import idf_of, tfidf
from deep_clustering.inference.predictor import PredictorOptions, make_predictor, to_bytes
from deep_clustering.inference.raw_rows import example_rows
from deep_clustering.methods import make_method, save_method
from deep_clustering.runs.tracking.models import ModelFiles
from deep_clustering.runs.tracking.store import start_run
from tracked_project import make_project

TEXTS = ["oil prices rise", "wheat and oil", "wheat trade", "trade talks", "oil trade"] * 4
LOAD = """
import sys, mlflow, numpy, pandas
for name, uri in zip(sys.argv[1::2], sys.argv[2::2]):
    rows = pandas.DataFrame({"text": numpy.load(f"{name}.npy")}) if name == "texts" else numpy.load(f"{name}.npy")
    mlflow.pyfunc.load_model(uri).predict(rows).to_parquet(f"{name}.parquet")
import deep_clustering
print(deep_clustering.__file__)
"""


@pytest.fixture
def kinds(parameters, make_options, images):
    """Method, rows, samples, vocabulary and options of each kind of data."""
    rows, terms = tfidf(TEXTS, 2000)
    words = {"terms": terms, "idf": idf_of(rows).tolist()}
    none = {"terms": [], "idf": None}
    digits = load_digits().images[:200, None].astype(np.uint8)
    backbone = asdict(make_options(postprocess="centre_l2"))
    return {
        "digits": ("dcan", "images", digits, digits, none, parameters["features"]),
        "texts": ("neural_mixture", "vectors", np.array(TEXTS), rows, words, parameters["features"]),
        "images": ("neural_mixture", "vectors", images, images, none, backbone),
    }


def test_a_fresh_process_predicts_the_same(kinds, tiny_options, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = make_project(tmp_path / "project")
    run = start_run(root, "fresh", "fresh", {})
    wanted, words = {}, []
    for name, (method, form, raw, samples, vocabulary, options) in kinds.items():
        card = {"name": name, "value_range": [0.0, 16.0 if name == "digits" else 255.0], "sha256": {"samples": name}}
        split = np.full(samples.shape[0], 3, dtype=np.uint8)
        features, preparation = prepare(samples, split, card, vocabulary, options)
        estimator = make_method(tiny_options(method, form, n_clusters=3)).fit(features)
        chosen = PredictorOptions(outlier_quantile=0.2, max_rows=0, data_set="images")
        predictor = make_predictor(
            save_method(estimator),
            preparation,
            estimator.history_,
            estimator.describe(features).log_density,
            split,
            chosen,
        )
        path = tmp_path / "predictor.safetensors"
        path.write_bytes(to_bytes(predictor))
        run.log_model(name, ModelFiles(path=path, input_example=example_rows(preparation), metadata={}))
        path.unlink()
        np.save(tmp_path / f"{name}.npy", raw)
        wanted[name] = estimator.predict(features), estimator.log_density(features)
        words += [name, f"runs:/{run.run_id}/{name}"]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    result = command(tmp_path, "-c", LOAD, *words, **store)
    assert result.returncode == 0, result.stderr
    assert "/code/deep_clustering/__init__.py" in result.stdout, "the code that ran is the code that was logged"
    for name, (clusters, densities) in wanted.items():
        table = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert table["cluster"].tolist() == clusters.tolist()
        np.testing.assert_allclose(table["log_density"], densities, rtol=1e-3, atol=1e-4)
        assert table["is_outlier"].tolist() == (densities < np.quantile(densities, 0.2)).tolist()
    left = [path.suffix for path in (root / "mlartifacts").rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    assert left == []
