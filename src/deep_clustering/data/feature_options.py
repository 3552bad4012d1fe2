"""The parameter block `features`: how samples become the rows that every method gets."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge

Scaling: TypeAlias = Literal["range", "none"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Options of the features."""

    scaling: Scaling
    """range: the data card's value range becomes [0, 1]; none: values as they are. A backbone has its own scale."""
    postprocess: Literal["none", "standardise", "centre_l2"]
    """none; standardise: each feature to mean 0 and deviation 1; centre_l2: to mean 0, then each row to length 1."""
    backbone: str | None
    """A classification network of torchvision, "timm:" and a name of timm, or null: the samples themselves."""
    weights: str
    """Name of torchvision's weights (downloaded once), a .safetensors or .pth file, or random."""
    size: Annotated[int, Ge(8)]
    """Side of the images that the backbone sees, in pixels."""
    layer: str
    """Module whose output becomes the features; maps are averaged over height and width."""
    batch_size: Annotated[int, Ge(1)]
    """Images at a time."""
    precision: Literal["auto", "bf16", "fp32"]
    """auto: bf16 where the device computes with it, else fp32; or one of the two."""
    device: str
    """Where the backbone runs, see `resolve_device`."""
    cache: str
    """Folder of extracted rows: a killed run goes on from there, an equal one only reads."""

    def __post_init__(self) -> None:
        if self.backbone is not None:
            from deep_clustering.data.pretrained.known import check_backbone, check_weights

            check_backbone(self.backbone)
            check_weights(self.backbone, self.weights)
