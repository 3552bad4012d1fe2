"""VaDE: a variational autoencoder whose prior is a mixture of Gaussians, one for each cluster.

Jiang, Zheng, Tan, Tang and Zhou, "Variational deep embedding: an unsupervised and generative approach to clustering",
IJCAI 2017, arXiv 1611.05148.

Symbols
    m(x), v(x)  mean and variance of q(z | x)          moments                        (n, latent_dim) each
    z           draw from q(z | x)                     latent                         (n, latent_dim)
    pi_c        weights of the mixture                 Mixture.logits                 (n_clusters,)
    mu_c, s_c   means and variances of the mixture     Mixture.means, log_variances   (n_clusters, latent_dim)
    gamma_c     responsibilities                       log_responsibilities           (n, n_clusters)
    g(z)        decoder                                decoder                        (n, values of a row)
    a           deviation of a value from the decoder  noise, Mixture.unit

Equations
    (1) model             p(x, z, c) = pi_c N(z; mu_c, s_c) p(x | z)
    (2) responsibilities  gamma_c = pi_c N(z; mu_c, s_c) / sum_d pi_d N(z; mu_d, s_d)
    (3) bound             ELBO = E_q ln p(x | z) - sum_c gamma_c KL(N(m, v) || N(mu_c, s_c)) - KL(gamma || pi)
    (4) bernoulli         ln p(x | z) = sum_j x_j ln y_j + (1 - x_j) ln(1 - y_j), y = sigmoid(g(z)), for rows in [0, 1]
    (5) gaussian          ln p(x | z) = -1/2 sum_j ((x_j - g(z)_j)^2 / a^2 + ln(2 pi a^2)), for any rows
    (6) loss              L = -1 / n sum_i ELBO(x_i), one draw of z for each row

Deviations from the paper, or choices where it is silent
    V1 pretraining is of all layers at once, by -ln p(x | m(x)), not layer by layer           pretraining
    V2 variances of the mixture and of q lie between exp(-10) and exp(10): a cluster cannot shrink to a point, where the
       density has no bound
    V3 the variances of the mixture that is fitted to the latents behind pretraining get a thousandth of the mean
       variance of the latents on top
    V4 the rate stays what it is; the paper lowers it
    V5 behind pretraining log v(x) begins as a constant, that of the mean variance within the clusters: as it comes from
       an untrained layer it can be so large that (3) tears the latents apart in the first steps
    V6 new rows are described at z = m(x); their log density is (3) there, which estimates the bound without a draw
    V7 a of (5) is in units of the rows: `noise` times the root mean square of all values about the mean of their
       column. Of rows of length one, whose values are small, an absolute one would hide all there is to see. In this
       unit encoder and decoder see them, too
    V8 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
       gamma of (3) is that of each view
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from annotated_types import Gt
from scipy import sparse
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.checks import check_rows
from deep_clustering.methods.autoencoding import CHUNK, FARTHEST, Autoencoding, AutoencodingSteps, root_mean_square
from deep_clustering.training.described import Described
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.precision import autocast
from deep_clustering.training.rows import Rows, describe_in_chunks

# Bounds of the logarithm of a variance (V2).
_LOG_VARIANCE = 10.0
# What is added to the variances of the first mixture, as a share of the latents' (V3).
_RIDGE = 1e-3


class Mixture(nn.Module):
    """The prior: weights, means and diagonal variances; beside it, the unit of rows and of their noise."""

    unit: Tensor

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        """Standard Gaussians of equal weight."""
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        self.logits = nn.Parameter(torch.zeros(n_clusters))
        self.means = nn.Parameter(torch.zeros(n_clusters, latent_dim))
        self.log_variances = nn.Parameter(torch.zeros(n_clusters, latent_dim))

    def log_weights(self) -> Tensor:
        """Log pi, shape (n_clusters,)."""
        return torch.log_softmax(self.logits, dim=0)

    def bounded(self) -> Tensor:
        """Log s within its bounds, shape (n_clusters, latent_dim)."""
        return self.log_variances.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)

    def log_joint(self, latent: Tensor) -> Tensor:
        """Log pi_c + log N(z; mu_c, s_c), shape (n, n_clusters); a number also where squares overflow."""
        log_variances = self.bounded()
        parts = [
            ((part.unsqueeze(1) - self.means).square() * (-log_variances).exp()).sum(dim=2)
            for part in latent.split(CHUNK)
        ]
        normaliser = (log_variances + math.log(2 * math.pi)).sum(dim=1)
        return (self.log_weights() - (torch.cat(parts) + normaliser) / 2).clamp_min(-FARTHEST)

    def divergences(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """KL(N(m, v) || N(mu_c, s_c)) of moments (n, latent_dim), shape (n, n_clusters)."""
        log_s = self.bounded()
        ratio = (log_variance.unsqueeze(1) - log_s).exp()
        squares = (mean.unsqueeze(1) - self.means).square() * (-log_s).exp()
        return (ratio + squares - 1 - log_variance.unsqueeze(1) + log_s).sum(dim=2).clamp_max(FARTHEST) / 2


def row_log_likelihood(rows: Tensor, decoded: Tensor, likelihood: str, noise: float | Tensor) -> Tensor:
    """Equations (4) and (5) of rows and what the decoder gives for them, (n, values): shape (n,)."""
    flat = rows.flatten(1)
    if likelihood == "bernoulli":
        return -F.binary_cross_entropy_with_logits(decoded, flat, reduction="none").sum(dim=1)
    scale = noise.to(flat) if isinstance(noise, Tensor) else flat.new_full((), noise)
    squares = ((flat - decoded) / scale).square()
    return -(squares + math.log(2 * math.pi) + 2 * scale.log()).sum(dim=1) / 2


def typical_deviation(rows: Rows) -> float:
    """Root mean square of all values about the mean of their column, each row as often as its weight says."""
    order = rows.in_proportion(torch.arange(len(rows), device=rows.device)).to(rows.place)
    sums = (rows[part].flatten(1).cpu().double().sum(dim=0) for part in order.split(CHUNK))
    return root_mean_square(rows, sum(sums, start=torch.zeros(())) / len(rows))


def latent_divergence(mixture: Mixture, mean: Tensor, log_variance: Tensor, latent: Tensor) -> Tensor:
    """What (3) takes from the likelihood: sum_c gamma_c KL(N(m, v) || N(mu_c, s_c)) + KL(gamma || pi), shape (n,)."""
    log_gamma = torch.log_softmax(mixture.log_joint(latent), dim=1)
    of_clusters = mixture.divergences(mean, log_variance) + log_gamma - mixture.log_weights()
    return (log_gamma.exp() * of_clusters).sum(dim=1)


@dataclass(kw_only=True)
class VaDE(Autoencoding):
    """VaDE; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "vade"
    label_free_score: ClassVar[tuple[str, str]] = ("elbo", "max")

    likelihood: Literal["bernoulli", "gaussian"]
    """Of a row given its latent: bernoulli (4) for rows in [0, 1], gaussian (5) for any."""
    noise: Annotated[float, Gt(0)]
    """Standard deviation of the gaussian likelihood, in units of the rows' own (V7)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.likelihood == "bernoulli" and not self.view.keeps_range:
            raise ValueError(
                f"likelihood: bernoulli needs views in [0, 1], which those of kind {self.views['kind']} are not; use "
                "likelihood: gaussian, or views of another kind"
            )

    @property
    def n_outputs(self) -> int:
        """Means and logarithms of variances."""
        return 2 * self.latent_dim

    def check(self, features: np.ndarray | sparse.csr_matrix) -> None:
        """Refuse rows that a coin cannot have thrown, too."""
        super().check(features)
        if self.likelihood == "bernoulli" and (features.min() < 0 or features.max() > 1):
            raise ValueError(
                f"{self.name}: likelihood: bernoulli needs rows in [0, 1], got values from {features.min():g} to "
                f"{features.max():g}; use likelihood: gaussian, or features.scaling: range"
            )

    def clusters(self) -> Mixture:
        """The prior."""
        return Mixture(self.n_clusters, self.latent_dim)

    @property
    def unit(self) -> Tensor:
        """What the encoder sees rows in and the decoder gives them in (V7): 1 where they are in [0, 1]."""
        mixture = self.networks_["clusters"]
        assert isinstance(mixture, Mixture)
        return mixture.unit

    def fit_of(self, views: Tensor, decoded: Tensor) -> Tensor:
        """Log-likelihood (4) or (5) of views under what the decoder gives for them, shape (n,)."""
        return row_log_likelihood(views, decoded * self.unit, self.likelihood, self.noise * self.unit)

    def moments(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), shape (n, latent_dim) each."""
        mean, log_variance = self.networks_["encoder"](views / self.unit).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)

    def encode(self, views: Tensor) -> Tensor:
        """The means."""
        return self.moments(views)[0]

    def log_joint(self, latent: Tensor) -> Tensor:
        """Log pi_c + log N(z; mu_c, s_c), shape (n, n_clusters)."""
        mixture = self.networks_["clusters"]
        assert isinstance(mixture, Mixture)
        return mixture.log_joint(latent)

    def bound(self, views: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Equation (3) at z = m(x), shape (n,): V6."""
        mixture = self.networks_["clusters"]
        assert isinstance(mixture, Mixture)
        fits = self.fit_of(views, self.networks_["decoder"](mean))
        lost = latent_divergence(mixture, mean, log_variance, mean)
        return fits.clamp_min(-FARTHEST) - lost

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, responsibilities and latent of each row at z = m(x), and (3) there in nats."""
        check_rows(features, self.name, self.row_shape_)
        for network in self.networks_.values():
            network.eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            view = self.view.plain(batch)
            mean, log_variance = self.moments(view)
            joint = self.log_joint(mean)
            responsibilities = torch.softmax(joint, dim=1)
            return responsibilities.argmax(dim=1), responsibilities, mean, self.bound(view, mean, log_variance), joint

        return describe_in_chunks(describe, Rows(features, self.device_))

    def training(self, data: Data) -> "VariationalSteps":
        """A training of the networks that were built."""
        return _Training(self, data)


class VariationalSteps(AutoencodingSteps):
    """A training of an autoencoder of distributions; a method adds `divergence`."""

    model: VaDE
    clusters: Mixture

    def begin(self, partition: Tensor | None) -> Tensor:
        """The unit of the noise (V7); clusters of the untrained latents."""
        if self.model.likelihood == "gaussian":
            self.clusters.unit.fill_(typical_deviation(self.data.rows))
        return super().begin(partition)

    def divergence(self, mean: Tensor, log_variance: Tensor, latent: Tensor, index: Tensor) -> Tensor:
        """What is lost of the likelihood by q being where it is and not at its cluster, shape (n,)."""
        raise NotImplementedError

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """One step of all networks on a batch: V1, then (6)."""
        with autocast(self.precision, views.device):
            mean, log_variance = self.model.moments(views)
        latent = mean
        if not self._is_pretraining:
            draws = torch.randn(mean.shape, generator=self.data.generator, device=mean.device)
            latent = mean + (log_variance / 2).exp() * draws
        loss = reconstruction = self.reconstruction(views, latent)
        divergence = torch.zeros_like(loss)
        if not self._is_pretraining:
            divergence = self.divergence(mean, log_variance, latent, self.of_views(index)).mean()
            loss = reconstruction + divergence
        self.descend(loss)
        return {"loss": loss, "reconstruction": reconstruction, "clustering": divergence}

    def reconstruction(self, views: Tensor, latent: Tensor) -> Tensor:
        """Mean of -ln p(x | z) over the rows."""
        with autocast(self.precision, views.device):
            decoded = self.decoder(latent)
        return -self.model.fit_of(views, decoded.float()).mean()

    @torch.no_grad()
    def place(self, latents: Tensor) -> None:
        """The mixture of the latents of all rows (V3)."""
        model, points = self.model, self.data.rows.in_proportion(latents).cpu().numpy().astype(np.float64)
        ridge = _RIDGE * points.var(axis=0).mean() + np.finfo(np.float32).tiny
        mixture = GaussianMixture(
            model.n_clusters, covariance_type="diag", reg_covar=ridge, n_init=model.n_init, random_state=model.seed
        ).fit(points)
        for parameter, found in (
            (self.clusters.logits, np.log(mixture.weights_)),
            (self.clusters.means, mixture.means_),
            (self.clusters.log_variances, np.log(mixture.covariances_)),
        ):
            parameter.copy_(torch.from_numpy(found.astype(np.float32)))
        assert isinstance(self.network, nn.Sequential)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.weight[model.latent_dim :] = 0  # V5
        last.bias[model.latent_dim :] = float(np.log(mixture.weights_ @ mixture.covariances_.mean(axis=1)))

    def settle(self, latents: Tensor) -> None:
        """All of the mixture is learned."""


@final
class _Training(VariationalSteps):
    """One training; see `deep_clustering.training.loop.Training`."""

    def divergence(self, mean: Tensor, log_variance: Tensor, latent: Tensor, index: Tensor) -> Tensor:
        """What (3) takes from the likelihood."""
        return latent_divergence(self.clusters, mean, log_variance, latent)

    @torch.no_grad()
    def finish(self, history: History) -> Tensor:
        """Clusters of all rows, and their mean bound (V6)."""
        assignments = super().finish(history)
        for network in self.networks.values():
            network.eval()
        bounds = self.data.apply(lambda views: self.model.bound(views, *self.model.moments(views)))
        history.final(elbo=self.data.rows.in_proportion(bounds).mean())
        return assignments
