"""The pipelines, one folder per stage."""
