"""Features: samples to the rows that every method gets."""

from deep_clustering.pipelines.features.pipeline import create_pipeline

__all__ = ["create_pipeline"]
