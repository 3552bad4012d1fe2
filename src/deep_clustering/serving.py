"""The model as MLflow serves it: MLflow runs this file, it reads the safetensors file; nothing is pickled.

The file is stored beside the weights in each logged model, so it must not import its neighbours relatively.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ClusteringModel(PythonModel):
    """Features in, cluster and its probability out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the fitted method from the artifact `model`."""
        from deep_clustering.datasets import ModelDataset
        from deep_clustering.methods import load_method

        row_shape = (context.model_config or {}).get("row_shape")
        self._row_shape = None if row_shape is None else tuple(row_shape)
        self._method = load_method(ModelDataset(filepath=context.artifacts["model"]).load())

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Assign each row to a cluster.

        Args:
            context: MLflow's context; not used.
            model_input: Features of the shape used in training, (n_samples, ...), or with flattened rows; a
                data frame has one column per number.
            params: Not used.

        Returns:
            A row per sample: `cluster`, int64, and `probability`, its responsibility as float64.

        Raises:
            ValueError: if the rows have another size than those of the training set.
        """
        features = self._as_features(model_input)
        clusters = np.asarray(self._method.predict(features), dtype=np.int64)
        responsibilities = np.asarray(self._method.predict_proba(features), dtype=np.float64)
        return pd.DataFrame({"cluster": clusters, "probability": responsibilities.max(axis=1)})

    def _as_features(self, model_input: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Rows as float32 in the shape used in training."""
        values = model_input.to_numpy() if isinstance(model_input, pd.DataFrame) else model_input
        features = np.ascontiguousarray(values, dtype=np.float32)
        if self._row_shape is None or features.shape[1:] == self._row_shape:
            return features
        if math.prod(features.shape[1:]) != math.prod(self._row_shape) or features.ndim < 2:
            raise ValueError(
                f"model_input has shape {features.shape}; expected (n_samples, "
                f"{', '.join(map(str, self._row_shape))}) or rows of {math.prod(self._row_shape)} numbers"
            )
        return features.reshape(-1, *self._row_shape)


set_model(ClusteringModel())
