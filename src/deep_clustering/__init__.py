"""Deep clustering of images and documents: NMM-EM and DCAN as reproducible Kedro pipelines."""

__version__ = "0.3.0"
