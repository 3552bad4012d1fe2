"""Which backbones and weights there are; asked before anything is built, read or downloaded."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torchvision import models

from deep_clustering.options import closest

TIMM = "timm:"
RANDOM = "random"
_SUFFIXES = (".safetensors", ".pth", ".pt")


def check_backbone(name: str) -> None:
    """Refuse a backbone that does not exist.

    Args:
        name: A classification network of torchvision, or "timm:" and one of timm.

    Raises:
        ValueError: naming the nearest known one, or how to install timm.
    """
    if name.startswith(TIMM):
        known = load_timm().list_models()
        architecture = name.removeprefix(TIMM).partition(".")[0]
        if architecture not in known:
            raise ValueError(f"backbone got '{name}' ({_nearest(architecture, known, 'timm.list_models()')})")
        return
    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"backbone got '{name}' ({closest(name, known)}; or '{TIMM}<name>')")


def _nearest(name: str, known: Sequence[str], listing: str) -> str:
    """As `closest`, for a list too long to be shown."""
    sentence = closest(name, known)
    return sentence if sentence.startswith("did you mean") else f"{listing} names all {len(known)}"


def load_timm() -> ModuleType:
    """The package timm; raises ValueError saying how to install it if it is missing."""
    try:
        return import_module("timm")
    except ImportError as error:
        raise ValueError(f"a backbone '{TIMM}<name>' needs the package timm: pip install timm") from error


def is_file(weights: str) -> bool:
    """Whether weights are named by the path of a file."""
    return "/" in weights or "\\" in weights or Path(weights).suffix in _SUFFIXES


def check_weights(backbone: str, weights: str) -> None:
    """Refuse weights that cannot be had, before anything is read or downloaded.

    Args:
        backbone: A known backbone, see `check_backbone`.
        weights: Name of torchvision's weights, path of a file, or "random".

    Raises:
        ValueError: if the file is missing or of another format, or the backbone has no weights of that name.
    """
    if weights == RANDOM:
        return
    if is_file(weights):
        path = Path(weights)
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"weights: expected a file {', '.join(_SUFFIXES)}, got '{weights}'")
        if not path.is_file():
            raise ValueError(f"weights: no such file: '{weights}' (looked in {Path.cwd()})")
        return
    if backbone.startswith(TIMM):
        raise ValueError(
            f"weights: '{backbone}' takes a file or '{RANDOM}', got '{weights}'; the page of the model on the Hugging "
            "Face hub has a model.safetensors to download"
        )
    known = [*models.get_model_weights(backbone).__members__, RANDOM]
    if weights not in known:
        raise ValueError(f"weights of {backbone} got '{weights}' ({closest(weights, known)}; or the path of a file)")
