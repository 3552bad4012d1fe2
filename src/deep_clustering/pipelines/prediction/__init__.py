"""Prediction: new rows to the clusters of a fitted method."""

from deep_clustering.pipelines.prediction.pipeline import create_pipeline

__all__ = ["create_pipeline"]
