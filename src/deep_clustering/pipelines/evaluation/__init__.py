"""Evaluation: the only stage, with reporting, that reads labels."""

from deep_clustering.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
