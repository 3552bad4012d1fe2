"""Where samples come from, and the card that says what they are."""

from deep_clustering.data.sources.loading import SOURCES, IngestionOptions, load_source
from deep_clustering.data.sources.samples import ASSIGNED, FITTED, Samples, Source, select_fitted

__all__ = ["ASSIGNED", "FITTED", "SOURCES", "IngestionOptions", "Samples", "Source", "load_source", "select_fitted"]
