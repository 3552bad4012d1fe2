"""Reporting: a page per run and a comparison of methods."""

from deep_clustering.pipelines.reporting.pipeline import create_comparison, create_pipeline

__all__ = ["create_comparison", "create_pipeline"]
