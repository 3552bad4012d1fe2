"""Two stages: a trunk learns what views share, methods find clusters in its embeddings, and it learns from those."""

from deep_clustering.pipelines.two_stage.pipeline import create_pipeline

__all__ = ["create_pipeline"]
