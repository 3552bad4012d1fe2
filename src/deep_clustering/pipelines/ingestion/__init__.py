"""Ingestion: raw files to samples, labels and a data card."""

from deep_clustering.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
