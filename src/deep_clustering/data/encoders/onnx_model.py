"""A sentence encoder kept as ONNX: a folder with model.onnx and tokenizer.json, and no package of its makers."""

import hashlib
import logging
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deep_clustering.data.encoders.known import MODEL_FILE, TOKENIZER_FILE
from deep_clustering.data.plain_json import parse_object

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions

logger = logging.getLogger(__name__)

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
# Files beside the model, for a folder that somebody else has put together, that say how many tokens it takes.
_LIMITS = (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length"))
# Tokens in a batch: more of them leave the caches of a CPU, and long texts get slower together than one by one.
_TOKENS = 4096
# What is counted of texts.
_CUT, _WITHOUT = "cut", "without a token"
# A model that scales its activations by the whole batch gives a text other values beside other texts.
_SCALED_BY_BATCH = b"DynamicQuantizeLinear"


class OnnxEncoder:
    """Tokens of a text to the value of its first one, or to their mean."""

    packages: tuple[str, ...] = ("onnxruntime", "tokenizers")

    def __init__(self, folder: Path, options: "FeatureOptions") -> None:
        """Read model and tokenizer, and try them.

        Args:
            folder: Of both.
            options: `pooling`, `max_tokens` and `batch_size` are used.

        Raises:
            ValueError: if a file is damaged, or the model is no text encoder.
        """
        self._where = f"features: encoder {folder}"
        self._pooling, self._batch_size = options.pooling, options.batch_size
        self.sha256, is_scaled_by_batch = _fingerprint(folder)
        if is_scaled_by_batch:
            self._batch_size = 1
        self._max_tokens = min(options.max_tokens, *_limits(folder))
        self._tokenizer = _open_tokenizer(folder / TOKENIZER_FILE, self._where)
        self._tokenizer.enable_truncation(self._max_tokens)
        self._session = _open_session(folder / MODEL_FILE, self._where)
        self._inputs = self._find_inputs()
        self._output = self._find_output()
        self.settings: dict[str, Any] = {"pooling": self._pooling, "max_tokens": self._max_tokens}
        self.counts: Counter[str] = Counter()
        self._width = self._run([self._tokenizer.encode("a text").ids or [0]]).shape[1]

    def _find_inputs(self) -> list[str]:
        names = [value.name for value in self._session.get_inputs()]
        if not {_IDS, _MASK} <= set(names) <= {_IDS, _MASK, _TYPES}:
            raise ValueError(
                f"{self._where}: {MODEL_FILE} takes {', '.join(names)}; expected a text encoder, which takes {_IDS}, "
                f"{_MASK} and perhaps {_TYPES}"
            )
        return names

    def _find_output(self) -> str:
        """Name of the first output with a vector for each token; one whose shape is not told may be it."""
        outputs = self._session.get_outputs()
        for value in outputs:
            if value.shape is None or len(value.shape) == 3:
                return value.name
        got = ", ".join(f"{value.name} {tuple(value.shape)}" for value in outputs)
        raise ValueError(f"{self._where}: {MODEL_FILE} gives {got}; expected (texts, tokens, values) of rank 3")

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of texts, texts of about equal length together.

        Args:
            texts: At least one.

        Yields:
            Places of some texts, and their rows, float32; zeros for a text that the tokenizer makes nothing of.
        """
        # The tokenizer takes valid characters only, and a text may hold half of one.
        encodings = self._tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
        self.counts[_CUT] += sum(bool(encoding.overflowing) for encoding in encodings)
        tokens = [encoding.ids for encoding in encodings]
        lengths = np.array([len(ids) for ids in tokens])
        order = np.argsort(lengths, kind="stable")
        start = int(np.count_nonzero(lengths == 0))
        if start:
            self.counts[_WITHOUT] += start
            yield order[:start], np.zeros((start, self._width), dtype=np.float32)
        while start < len(order):
            size = min(self._batch_size, len(order) - start)
            # The last of a batch is its longest; a batch of few tokens may hold many texts.
            while size > 1 and size * lengths[order[start + size - 1]] > _TOKENS:
                size -= 1
            places = order[start : start + size]
            yield places, self._run([tokens[place] for place in places])
            start += size

    def _run(self, tokens: list[list[int]]) -> np.ndarray:
        longest = max(len(ids) for ids in tokens)
        mask = np.array([[1] * len(ids) + [0] * (longest - len(ids)) for ids in tokens], dtype=np.int64)
        ids = np.zeros_like(mask)
        ids[mask == 1] = np.concatenate(tokens)
        values = {_IDS: ids, _MASK: mask, _TYPES: np.zeros_like(mask)}
        (hidden,) = self._session.run([self._output], {name: values[name] for name in self._inputs})
        if hidden.ndim != 3 or hidden.shape[:2] != mask.shape:
            raise ValueError(
                f"{self._where}: output '{self._output}' has shape {hidden.shape} for {mask.shape[0]} texts of "
                f"{mask.shape[1]} tokens; expected (texts, tokens, values) of rank 3"
            )
        if self._pooling == "cls":
            return hidden[:, 0].astype(np.float32)
        weights = mask[:, :, None] / mask.sum(axis=1)[:, None, None]
        return (hidden * weights).sum(axis=1).astype(np.float32)

    def close(self) -> None:
        """Say how many texts were cut, and of how many nothing was left."""
        if n_cut := self.counts[_CUT]:
            logger.warning("features: %d texts are longer than %d tokens and were cut there", n_cut, self._max_tokens)
        if n_without := self.counts[_WITHOUT]:
            logger.warning("features: of %d texts the tokenizer makes no token; their rows are zero", n_without)
        self.counts.clear()


def _fingerprint(folder: Path) -> tuple[str, bool]:
    """sha256 of all files that the rows depend on, in hexadecimal, and whether the model is scaled by the batch."""
    digest = hashlib.sha256()
    for path in sorted({folder / MODEL_FILE, folder / TOKENIZER_FILE, *folder.glob(f"{MODEL_FILE}*")}):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    if not (folder / MODEL_FILE).stat().st_size:  # no map of nothing
        raise ValueError(f"features: encoder {folder}: {MODEL_FILE} is empty, expected a model")
    # Names of operations are plain text in the file.
    with (folder / MODEL_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return digest.hexdigest(), content.find(_SCALED_BY_BATCH) >= 0


def _limits(folder: Path) -> list[int]:
    """Tokens that the model takes, by each file that says so; makers write 1e30 for "any number"."""
    found = []
    for name, key in _LIMITS:
        try:
            limit = parse_object((folder / name).read_bytes()).get(key)
        except (OSError, ValueError):
            continue
        if isinstance(limit, int | float) and limit >= 1:
            found.append(int(min(limit, 2**31)))
    return found or [2**31]


def _open_tokenizer(path: Path, where: str) -> Any:  # noqa: ANN401 - a `tokenizers.Tokenizer`
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"{where}: {path.name} is damaged or no tokenizer ({error})") from error
    tokenizer.no_padding()  # texts are padded to the longest of a batch, not to what the file says
    return tokenizer


def _open_session(path: Path, where: str) -> Any:  # noqa: ANN401 - an `onnxruntime.InferenceSession`
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # It does not look at what limits every other library here.
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    options.intra_op_num_threads = int(limit) if limit.isdecimal() else 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise ValueError(f"{where}: {path.name} is damaged or no model ({str(error).splitlines()[0]})") from error
