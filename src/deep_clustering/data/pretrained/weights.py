"""Weights of a backbone: where they come from, their sha256, and whether they fit.

Files are read as safetensors, or as PyTorch files of plain tensors; one that holds any other object is refused.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError  # only to name what the restricted reader of torch raises
from urllib.error import URLError
from urllib.parse import urlparse

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torchvision import models

from deep_clustering.data.pretrained.backbone import Backbone
from deep_clustering.data.pretrained.known import RANDOM, is_file

logger = logging.getLogger(__name__)

_SHOWN = 3


def locate_weights(backbone: str, weights: str) -> Path | None:
    """File of the weights; those that torchvision names are downloaded unless torch has them already.

    Args:
        backbone: A known backbone.
        weights: As `check_weights` accepts.

    Returns:
        The file, or None for random weights.

    Raises:
        ConnectionError: if a download fails.
    """
    if weights == RANDOM:
        return None
    if is_file(weights):
        return Path(weights)
    url = models.get_model_weights(backbone)[weights].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        logger.info("features: downloading %s to %s", url, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # torchvision writes the start of the file's sha256 into its name; torch.hub checks it
            hash_prefix = path.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=False)
        except (URLError, OSError) as error:
            raise ConnectionError(
                f"weights {weights} of {backbone}: cannot download {url} ({error}); fetch the file elsewhere and give "
                "its path instead: --params=features.weights=PATH"
            ) from error
    return path


def file_sha256(path: Path | None) -> str:
    """sha256 of a file of weights, in hexadecimal; "random" without one."""
    if path is None:
        return RANDOM
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Args:
        path: A safetensors file, or a PyTorch file of a state dict.

    Returns:
        Name to tensor.

    Raises:
        ValueError: if the file is damaged, or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: expected named tensors, got a file that is damaged or holds other objects, which are never "
            f"loaded ({reason})"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        got = f"a mapping of {', '.join(map(str, list(state)[:_SHOWN]))}" if isinstance(state, Mapping) else type(state)
        raise ValueError(f"{path}: expected a state dict (name to tensor), got {got}")
    return dict(state)


def load_weights(backbone: Backbone, state: Mapping[str, Tensor], where: str) -> None:
    """Fill the part of a network that is used; what only lies behind the layer may be missing.

    Args:
        backbone: The network, changed in place.
        state: Name to tensor.
        where: File and backbone, for the message.

    Raises:
        ValueError: naming what is missing, unexpected and of another shape.
    """
    needed = backbone.body.state_dict()
    missing = [
        name
        for name in needed
        if name not in state
        and not name.endswith("num_batches_tracked")  # older files have none, and no prediction depends on it
        and not (backbone.classifier and name.startswith(backbone.classifier))
    ]
    unexpected = sorted(set(state) - set(backbone.names))
    misfits = [
        f"{name}: got {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in needed.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unexpected or misfits:
        raise ValueError(
            f"{where}: the file and the backbone do not belong together. Missing: {_some(missing)}. "
            f"Unexpected: {_some(unexpected)}. Of another shape: {_some(misfits)}"
        )
    backbone.body.load_state_dict({name: state[name] for name in needed if name in state}, strict=False)


def _some(names: Sequence[str]) -> str:
    """The first few names and how many there are."""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} ({shown})" if names else "none"
