"""MLflow tracking by a Kedro hook: one MLflow run per Kedro run; mlflow is imported when one starts."""

from deep_clustering.inference.mlflow_store import TrackingError
from deep_clustering.runs.tracking.hook import MLflowTracking

__all__ = ["MLflowTracking", "TrackingError"]
