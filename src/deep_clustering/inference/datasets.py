"""The catalog entry of a predictor."""

from typing import IO

from safetensors import SafetensorError

from deep_clustering.data.datasets.base import DAMAGED, FileDataset
from deep_clustering.inference import predictor
from deep_clustering.inference.predictor import Predictor


class PredictorDataset(FileDataset):
    """A fitted method with the preparation of its rows, as one `.safetensors` file."""

    kind = "a predictor (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Predictor, file: IO[bytes]) -> None:
        file.write(predictor.to_bytes(data))

    def _decode(self, file: IO[bytes]) -> Predictor:
        return predictor.from_bytes(file.read())
