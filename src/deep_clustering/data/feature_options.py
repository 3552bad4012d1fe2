"""The parameter block `features`: how samples become the rows that every method gets."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le

from deep_clustering.data.learned_options import LearnedOptions
from deep_clustering.options import build

HOG, PATCHES, LEARNED = "hog", "patches", "learned"
WITHOUT_WEIGHTS = (HOG, PATCHES, LEARNED)
"""Backbones that need no weights."""

Scaling: TypeAlias = Literal["range", "none"]


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Options of the features."""

    scaling: Scaling
    """range: the data card's value range becomes [0, 1]; none: as they are. Backbone and encoder have their own."""
    postprocess: Literal["none", "standardise", "centre_l2"]
    """none; standardise: each feature to mean 0 and deviation 1; centre_l2: to mean 0, then each row to length 1."""
    backbone: str | None
    """A classification network of torchvision, "timm:" and a name of timm; without weights hog, histograms of oriented
    gradients, patches, embedded patches that are learned from the images, or learned, a small network that learns from
    the images for some minutes; or null: the samples themselves."""
    beside_gradients: bool
    """Put the histograms of gradients beside what a network or patches say, if the two say more together, see
    `spaces`."""
    weights: str
    """Name of torchvision's weights (downloaded once), a .safetensors or .pth file, or random."""
    size: Annotated[int, Ge(8)]
    """Side of the images that the backbone sees, in pixels."""
    layer: str
    """Module whose output becomes the features; maps are averaged over height and width."""
    batch_size: Annotated[int, Ge(1)]
    """Images or texts at a time."""
    precision: Literal["auto", "bf16", "fp32"]
    """auto: bf16 where the device computes with it, else fp32; or one of the two."""
    device: str
    """Where the backbone runs, see `resolve_device`."""
    launcher: Literal["local", "ray"]
    """What computes the shards of the rows of a network or of a text model: local, this process; ray, the workers of a
    Ray cluster, see `shards_on_ray`."""
    cache: str
    """Folder of extracted rows: a killed run goes on from there, an equal one only reads."""
    learned: dict[str, Any]
    """Options of backbone learned, see `LearnedOptions`; without that backbone also none."""

    encoder: str | list[str] | None
    """Of texts: lsa, latent semantic analysis; "onnx:" and a folder of model.onnx and tokenizer.json;
    "sentence-transformers:" or "model2vec:" and a name there; a list of these, whose rows lie side by side; or null."""
    pooling: Literal["cls", "mean"]
    """What an ONNX model's tokens come to: cls, the first of them; mean, all of them."""
    max_tokens: Annotated[int, Ge(8)]
    """Tokens at which a text is cut for an ONNX model, or earlier if its files say that it takes fewer."""
    lsa: Annotated[int, Ge(2)]
    """Directions of latent semantic analysis."""
    max_terms: Annotated[int, Ge(1)]
    """Largest number of terms in it; the most frequent are kept. Rows of a source without texts keep their terms."""
    max_df: Annotated[float, Gt(0), Le(1)]
    """Largest share of the texts that one of its terms may stand in."""
    min_df: Annotated[int, Ge(1)]
    """Fewest texts that one of its terms must stand in."""

    @property
    def has_network(self) -> bool:
        """Whether a pretrained network sees the images."""
        return self.backbone not in (None, *WITHOUT_WEIGHTS)

    @property
    def learned_options(self) -> LearnedOptions:
        """Options of the network that learns from the images."""
        return build(LearnedOptions, self.learned, "learned")

    @property
    def encoders(self) -> tuple[str, ...]:
        """All encoders, in the order of their columns; each by one spelling."""
        from deep_clustering.data.encoders.known import normalised

        names = self.encoder if isinstance(self.encoder, list) else [] if self.encoder is None else [self.encoder]
        return tuple(map(normalised, names))

    @property
    def has_shards(self) -> bool:
        """Whether rows are computed in shards: those of a network, or of a text model."""
        from deep_clustering.data.encoders.known import LSA

        return self.has_network or any(name != LSA for name in self.encoders)

    def __post_init__(self) -> None:
        self._check_learned()
        if self.has_network:
            from deep_clustering.data.pretrained.known import check_backbone, check_weights

            check_backbone(str(self.backbone))
            check_weights(str(self.backbone), self.weights)
        if self.beside_gradients and (self.backbone in (None, HOG) or self.postprocess != "centre_l2"):
            raise ValueError(
                f"beside_gradients needs a network, {PATCHES} or {LEARNED} as backbone, and postprocess centre_l2, "
                f"which brings the rows of both to one scale, got backbone {self.backbone!r} and postprocess "
                f"'{self.postprocess}'"
            )
        if self.encoder is not None:
            self._check_encoders()

    def _check_learned(self) -> None:
        if not self.learned and self.backbone != LEARNED:  # files of versions without that backbone have none
            return
        options = self.learned_options
        if self.backbone == LEARNED:
            options.trunk(2, "cpu", "fp32")

    def _check_encoders(self) -> None:
        from deep_clustering.data.encoders.known import check_encoder

        if self.backbone is not None:
            raise ValueError(
                f"backbone '{self.backbone}' is of images, encoder {self.encoder!r} of texts; set one of them to null"
            )
        if not self.encoders or len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoder expected different encoders, got {self.encoder!r}")
        if len(self.encoders) > 1 and self.postprocess != "centre_l2":
            raise ValueError(
                f"several encoders need postprocess centre_l2, which brings their rows to one scale, got "
                f"'{self.postprocess}'"
            )
        for name in self.encoders:
            check_encoder(name)


def check_before_trunk(postprocess: str) -> None:
    """Refuse rows for a trunk that were centred or scaled before, which is done once, behind it; raises ValueError."""
    if postprocess != "none":
        raise ValueError(
            f"features: rows of a trunk are postprocessed behind it, got postprocess '{postprocess}'; set none"
        )
