"""N2D: not too deep clustering: an autoencoder, a map of its latents on which near ones stay near, and a mixture there.

McConville, Santos-Rodriguez, Piechocki and Craddock, "N2D: (not too) deep clustering via clustering the local manifold
of an autoencoded embedding", ICPR 2020, arXiv 1908.05968.

Symbols
    f(x), z     encoder and latent                     encoder, latent                (n, latent_dim)
    g(z)        decoder                                decoder                        (n, values of a row)
    u_i         place of row i on the map              map                            (n, 2)
    P           values of a row

Equations
    (1) autoencoder  L = 1 / n sum_i |x_i - g(f(x_i))|^2 / P, in all epochs
    (2) map          u = t-SNE(z): it keeps near what is near along the manifold of the latents
    (3) mixture      p(u) = sum_k w_k N(u; m_k, S_k), by EM on the map
    (4) prediction   p(k | x) of the training row whose latent is nearest to f(x)

Deviations from the paper, or choices where it is silent
    U1 the map is by t-SNE in two dimensions, of which the paper tries it too; its best results have UMAP in as many
       dimensions as clusters
    U2 while it trains, clusters are those of k-means on the latents; the map is made once, behind the last epoch
    U3 (4), as a map of t-SNE has no place for a new row
    U4 of more rows than the map takes a draw is on it; each other row goes with the nearest of these    max_rows
    U5 batch normalisation behind each hidden layer, unless encoder.kind is plain_mlp
    U6 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
    U7 rows may be seen in units of their own, as DEC's are; see `methods.autoencoding`                     row_unit
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, final

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from deep_clustering.methods.autoencoding import Scaled, ScaledSteps
from deep_clustering.methods.latent_mixture import within_share
from deep_clustering.methods.nearest_rows import TrainingRows, draw_rows
from deep_clustering.methods.tsne import fit_on_map, tsne_map
from deep_clustering.training.described import Described
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data


@dataclass(kw_only=True)
class N2D(Scaled):
    """N2D; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "n2d"
    shown: ClassVar = ("reconstruction",)
    pretraining: ClassVar = 1.0  # type: ignore[misc]

    perplexity: Annotated[float, Ge(1)]
    """Perplexity of t-SNE."""
    pca_dim: Annotated[int, Ge(2)]
    """Latents of more values are reduced to so many principal components before t-SNE."""
    barnes_hut_rows: Annotated[int, Ge(0)]
    """Up to so many rows the map is scikit-learn's Barnes-Hut t-SNE, above openTSNE's."""
    max_rows: Annotated[int, Ge(2)]
    """Rows on the map; of more rows a draw of so many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_rows < self.n_clusters:
            raise ValueError(f"max_rows must be at least n_clusters, got {self.max_rows} and {self.n_clusters}")

    def group(self, latents: np.ndarray, counted: np.ndarray) -> None:
        """Equations (2) and (3).

        Args:
            latents: Of all rows, shape (n_samples, latent_dim).
            counted: Rows by which the mixture is fitted, each as often as its weight says, shape (n_samples,).
        """
        on_map = draw_rows(len(latents), self.max_rows, self.seed)
        known = latents[on_map]
        self.map_ = tsne_map(
            known,
            perplexity=self.perplexity,
            pca_dim=self.pca_dim,
            barnes_hut_rows=self.barnes_hut_rows,
            seed=self.seed,
        )
        places = np.full(len(latents), -1)
        places[on_map] = np.arange(len(on_map))
        counted = places[counted]
        mixture = fit_on_map(self.map_[counted[counted >= 0]], self.n_clusters, self.n_init, self.seed)
        self._known = TrainingRows(self.name, known, mixture.predict_proba(self.map_).astype(np.float32))

    def responsibilities(self, latents: np.ndarray) -> np.ndarray:
        """Equation (4) of latents, shape (n, n_clusters), float32."""
        return self._known.responsibilities[self._known.nearest(latents)]

    def describe(self, features: np.ndarray) -> Described:
        """Equation (4) and the latent of each row; no densities."""
        latent = super().describe(features).latent
        responsibilities = self.responsibilities(latent)
        return Described(responsibilities.argmax(axis=1).astype(np.int64), responsibilities, latent, None)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Networks, latents of the rows on the map, their responsibilities, and the map."""
        return {**super().get_arrays(), **self._known.arrays(), "map": self.map_}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self._known = TrainingRows(self.name, arrays["rows"], arrays["responsibilities"])
        self.map_ = arrays["map"]
        return super().set_arrays(arrays)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(ScaledSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: N2D

    @torch.no_grad()
    def finish(self, history: History) -> Tensor:
        """Map and mixture; clusters of all rows, and the share of the latents' variance that is left within them."""
        latents, rows = self.latents(), self.data.rows
        self._assign(latents, is_placed=False)
        counted = rows.in_proportion(torch.arange(len(rows), device=rows.device))
        self.model.group(latents.cpu().numpy(), counted.cpu().numpy())
        found = self.model.responsibilities(latents.cpu().numpy()).argmax(axis=1)
        assignments = torch.from_numpy(found).to(latents.device)
        history.final(within_share=within_share(latents, assignments, self.model.n_clusters))
        return assignments
