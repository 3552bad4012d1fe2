"""Fitted methods and preparations: arrays in a `.safetensors` file, everything else as JSON in its header."""

import json
from typing import IO

from safetensors import SafetensorError

from deep_clustering.data import tensor_files
from deep_clustering.data.datasets.base import DAMAGED, FileDataset, JSONPreview, if_saved
from deep_clustering.data.preparation import Preparation
from deep_clustering.methods import Model


class ModelDataset(FileDataset):
    """A fitted method as one `.safetensors` file: its arrays, with name and options in the header."""

    kind = "a fitted model (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Model, file: IO[bytes]) -> None:
        header = {"method": data.method, "options": json.dumps(data.options)}
        if data.clusters:
            header["clusters"] = json.dumps(dict(data.clusters))
        file.write(tensor_files.to_bytes(data.arrays, header))

    def _decode(self, file: IO[bytes]) -> Model:
        arrays, header = tensor_files.from_bytes(file.read())
        clusters = json.loads(header.get("clusters", "{}"))
        return Model(header["method"], json.loads(header["options"]), arrays, clusters)

    @if_saved
    def preview(self) -> JSONPreview:
        """Method, options and array shapes, for Kedro-Viz."""
        model = self.load()
        shapes = {name: list(array.shape) for name, array in model.arrays.items()}
        return JSONPreview(json.dumps({"method": model.method, "options": model.options, "arrays": shapes}))


class PreparationDataset(FileDataset):
    """How samples became features, as one `.safetensors` file: its arrays, with the rest as JSON in the header."""

    kind = "a preparation (.safetensors)"
    reader_errors = (*DAMAGED, SafetensorError)

    def _encode(self, data: Preparation, file: IO[bytes]) -> None:
        file.write(tensor_files.to_bytes(data.arrays, {"preparation": json.dumps(data.to_plain())}))

    def _decode(self, file: IO[bytes]) -> Preparation:
        arrays, header = tensor_files.from_bytes(file.read())
        return Preparation.from_plain(json.loads(header["preparation"]), arrays)

    @if_saved
    def preview(self) -> JSONPreview:
        """Everything but the arrays, for Kedro-Viz."""
        return JSONPreview(json.dumps(self.load().to_plain()))
