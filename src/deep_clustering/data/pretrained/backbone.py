"""From the name of a backbone to a network that turns bytes into rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from deep_clustering.data.pretrained.known import TIMM, load_timm
from deep_clustering.data.pretrained.precision import protect_from_rounding
from deep_clustering.options import closest

if TYPE_CHECKING:
    from deep_clustering.data.feature_options import FeatureOptions

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ROWS = "rows"


class Backbone(NamedTuple):
    """A network cut at a layer."""

    body: nn.Module
    """Images to {"rows": output of the layer}, with the names of the whole network."""
    names: list[str]
    """Names of all weights of the whole network."""
    classifier: str
    """Weights whose names start so may be missing; "" where the body holds only what the layer needs."""
    mean: Sequence[float]
    std: Sequence[float]


def make_backbone(name: str, layer: str) -> Backbone:
    """Build a network with random weights, the same every time, and cut it at a layer.

    Args:
        name: A known backbone.
        layer: For torchvision the name of a module or operation, for timm of a module.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: if there is no such layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name.startswith(TIMM):
            return _cut_timm(load_timm().create_model(name.removeprefix(TIMM), pretrained=False).eval(), name, layer)
        model = models.get_model(name, weights=None).eval()
    nodes = get_graph_node_names(model)[1][1:]
    if layer not in nodes and not any(node.startswith(f"{layer}.") for node in nodes):
        raise ValueError(
            f"features: layer of {name} got '{layer}' ({closest(layer, {node.split('.')[0] for node in nodes})})"
        )
    # Building the graph leaves the new module in training mode.
    body = create_feature_extractor(model, {layer: _ROWS}).eval()
    return Backbone(body, list(model.state_dict()), "", _IMAGENET_MEAN, _IMAGENET_STD)


def _cut_timm(model: nn.Module, name: str, layer: str) -> Backbone:
    """Not every network of timm can be traced: all of it runs, and the output of the layer is kept."""
    modules = {module for module, _ in model.named_modules() if module}
    if layer not in modules:
        raise ValueError(
            f"features: layer of {name} got '{layer}' ({closest(layer, {m for m in modules if '.' not in m})})"
        )
    about: Any = model.pretrained_cfg
    classifier = about.get("classifier")
    optional = f"{classifier}." if isinstance(classifier, str) and layer.split(".")[0] != classifier else ""
    kept: dict[str, Tensor] = {}
    model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.update({_ROWS: output}))
    model.register_forward_hook(lambda module, inputs, output: dict(kept))
    return Backbone(model, list(model.state_dict()), optional, about["mean"], about["std"])


class Extractor(nn.Module):
    """Bytes to rows: resizing, normalisation, the network up to a layer, global average pooling."""

    def __init__(
        self,
        backbone: Backbone,
        options: "FeatureOptions",
        value_range: Sequence[float],
        precision: str,
        device: torch.device,
    ) -> None:
        """Place a network.

        Args:
            backbone: The network, with its weights.
            options: `size` is used, and the rest for messages.
            value_range: Values of the images that become 0 and 1.
            precision: "bf16" or "fp32".
            device: Where it runs.
        """
        super().__init__()
        self._size, self._precision, self._device = options.size, precision, device
        self._name, self._layer = options.backbone, options.layer
        if precision == "bf16":
            protect_from_rounding(backbone.body)
        self.body = backbone.body.requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        # (x - low) / (high - low), then (. - mean) / std, as one product and one sum
        low, high = value_range
        mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
        self._factor = (1 / ((high - low) * std)).view(3, 1, 1).to(device)
        self._offset = (-(low / (high - low) + mean) / std).view(3, 1, 1).to(device)

    @torch.inference_mode()
    def forward(self, images: np.ndarray) -> np.ndarray:
        """Rows of a batch.

        Args:
            images: Shape (batch, 1 or 3, height, width), uint8.

        Returns:
            Rows, shape (batch, n_features), float32.

        Raises:
            ValueError: if the output of the layer is neither vectors nor maps.
        """
        pixels = torch.tensor(images).to(self._device, non_blocking=True).float()
        if pixels.shape[-2:] != (self._size, self._size):
            pixels = F.interpolate(pixels, size=(self._size, self._size), mode="bilinear", antialias=True)
        # grey becomes three equal channels by broadcasting
        pixels = (pixels * self._factor + self._offset).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            output = self.body(pixels)[_ROWS]
        if output.dim() not in (2, 4):
            raise ValueError(
                f"features: layer '{self._layer}' of {self._name} gives {tuple(output.shape[1:])} per image; expected "
                "a vector or maps (channels, height, width): choose a layer behind it"
            )
        rows = output.float()
        return (rows.mean((2, 3)) if rows.dim() == 4 else rows).cpu().numpy()
