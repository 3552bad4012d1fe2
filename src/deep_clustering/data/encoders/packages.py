"""Sentence encoders of packages that the user has installed: sentence-transformers and model2vec."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deep_clustering.data.encoders.known import SENTENCE_TRANSFORMERS

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions


class PackageEncoder:
    """What a package makes of texts, with its own pooling and length."""

    def __init__(self, kind: str, name: str, options: "FeatureOptions") -> None:
        """Load a model, which its package may download.

        Args:
            kind: sentence-transformers or model2vec.
            name: Of the model there, or a folder.
            options: `device` and `batch_size` are used.

        Raises:
            ValueError: if the package cannot load it.
        """
        self.packages: tuple[str, ...] = (kind,)
        self.settings: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        try:
            self._model = _load(kind, name, options)
        except Exception as error:  # whatever the package and its download raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"features: encoder '{kind}:{name}' cannot be loaded ({reason})") from error
        self._batch_size = options.batch_size
        self.sha256 = _fingerprint(self._model)

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of texts, some at a time; the packages sort by length themselves.

        Args:
            texts: At least one.

        Yields:
            Places of some texts, and their rows, float32.
        """
        step = 16 * self._batch_size
        for start in range(0, len(texts), step):
            part = list(texts[start : start + step])
            rows = np.asarray(self._model.encode(part, batch_size=self._batch_size, show_progress_bar=False))
            if rows.ndim != 2 or len(rows) != len(part):
                raise ValueError(
                    f"features: encoder {self.packages[0]} gives {rows.shape} for {len(part)} texts; expected "
                    "(texts, values) of rank 2"
                )
            yield np.arange(start, start + len(part)), rows.astype(np.float32)

    def close(self) -> None:
        """Nothing to say: the packages do not tell how many texts they cut."""


def _load(kind: str, name: str, options: "FeatureOptions") -> Any:  # noqa: ANN401 - a model of either package
    if kind == SENTENCE_TRANSFORMERS:
        from sentence_transformers import SentenceTransformer

        from deep_clustering.training.rows import resolve_device

        return SentenceTransformer(name, device=str(resolve_device(options.device)))
    from model2vec import StaticModel

    return StaticModel.from_pretrained(name)


def _fingerprint(model: Any) -> str:  # noqa: ANN401
    """sha256 of a model's weights, in hexadecimal; its name may come to mean others."""
    weights = model.state_dict() if hasattr(model, "state_dict") else {"embedding": model.embedding}
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name]
        array = np.asarray(values.float().cpu() if hasattr(values, "cpu") else values)
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
