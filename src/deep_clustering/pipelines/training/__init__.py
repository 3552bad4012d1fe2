"""Training: one template, instantiated for each method under its own namespace."""

from deep_clustering.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
