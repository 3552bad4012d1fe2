"""The model as MLflow serves it: MLflow runs this file, it reads the safetensors file; nothing is pickled.

The file is stored beside the predictor in each logged model, so it must not import its neighbours relatively.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from deep_clustering.inference.predictor import Predictor

logger = logging.getLogger(__name__)


class ClusteringModel(PythonModel):
    """Raw rows in; cluster, probability, log density and whether it is an outlier out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the predictor from the artifact `predictor`.

        The model configuration may name `max_rows`, instead of the number stored, and `weights`, the place of the
        backbone's weights on this machine.
        """
        from deep_clustering.inference.predictor import from_bytes

        predictor = from_bytes(Path(context.artifacts["predictor"]).read_bytes())
        config = context.model_config or {}
        self._take(predictor, int(config.get("max_rows", predictor.max_rows)), config.get("weights"))

    @classmethod
    def of(cls, predictor: "Predictor", weights: str | None = None) -> "ClusteringModel":
        """The model of a predictor that is read already."""
        model = cls()
        model._take(predictor, predictor.max_rows, weights)
        return model

    def _take(self, predictor: "Predictor", max_rows: int, weights: str | None) -> None:
        from deep_clustering.inference.predictor import Assigner

        self._max_rows, self._preparation = max_rows, predictor.preparation
        self._assigner = Assigner(predictor, weights)

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # or any other form of rows: MLflow would warn of a union
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Assign each row to a cluster.

        Args:
            context: MLflow's context; not used.
            model_input: Raw rows, in any form that `deep_clustering.inference.raw_rows.as_samples` takes.
            params: Not used.

        Returns:
            A row for each: `cluster`, `probability`, `log_density` and `is_outlier`. Without densities `log_density`
            is None, which is JSON's null, where a NaN would not be JSON.

        Raises:
            MlflowException: if the rows are too many or not what the method was fitted to; over HTTP a 400.
        """
        from deep_clustering.inference.raw_rows import are_taken_in_order, count_rows, number_columns

        n_rows = count_rows(model_input)
        if self._max_rows and n_rows > self._max_rows:
            raise MlflowException.invalid_parameter_value(
                f"rows: got {n_rows}; expected at most {self._max_rows} at once: send them in several requests"
            )
        names = list(getattr(model_input, "columns", []))
        if names and number_columns(self._preparation) and are_taken_in_order(self._preparation, names):
            logger.warning("rows: no column is called as in the training: they are taken in their order")
        try:
            table = self._assigner.assign(model_input)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        if table["log_density"].isna().all():
            table["log_density"] = pd.Series([None] * len(table), dtype=object)
        return table


set_model(ClusteringModel())
