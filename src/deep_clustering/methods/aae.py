"""Adversarial autoencoder with a categorical code: what a decoder needs of a row is a cluster and a style.

Makhzani, Shlens, Jaitly, Goodfellow and Frey, "Adversarial autoencoders", ICLR workshops 2016, arXiv 1511.05644, of
which this is the unsupervised clustering.

Symbols
    y(x)        probabilities of the clusters            softmax of the first outputs (n, n_clusters)
    z(x)        style                                    the other outputs            (n, style_dim)
    g(y, z)     decoder                                  decoder                      (n, values of a row)
    D_y, D_z    discriminators: whether a code is a draw judge_of_clusters, judge_of_style
    c, e        draws: one-hot uniform, standard normal  draw_codes
    u           normal noise, drawn anew wherever it stands  noise
    P           values of a row

Equations
    (1) reconstruction   L_r = 1 / n sum_i |x_i - g(y(x_i), z(x_i))|^2 / P, which moves encoder and decoder
    (2) discriminators   L_D = BCE(D_y(c + u), 1) + BCE(D_y(y(x) + u), 0) + BCE(D_z(e + u), 1) + BCE(D_z(z(x) + u), 0),
                         which moves them
    (3) encoder          L_E = BCE(D_y(y(x) + u), 1) + BCE(D_z(z(x) + u), 1), which moves the encoder
    (4) prediction       the largest value of y(x)

Deviations from the paper, or choices where it is silent
    B1 as many clusters as are asked for; the paper takes 16 and 30 and lets a class have several
    B2 a step does (1), (2) and (3) one after the other, each with an Adam of its own; the paper descends with momentum
    B3 encoder and decoder with batch normalisation where encoder.kind is not plain_mlp, discriminators with LeakyReLU
    B4 the paper has no u. Without it D_y tells corners of the simplex from what lies beside them, and the encoder goes
       to some corners only: clusters stay empty, and where y(x) is near 0 or 1 nothing moves it any more
    B5 restarts and runs compare by (1) of the last epoch, the mean over its batches
    B6 rows may be seen by random views in training, after DEC-DA; see `methods.autoencoding`               views
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.checks import check_rows
from deep_clustering.methods.autoencoding import Decoding, reconstruction_error
from deep_clustering.methods.estimator import Steps
from deep_clustering.methods.latent_mixture import memberships
from deep_clustering.training.described import Described
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import discriminator
from deep_clustering.training.optimisers import make_optimiser
from deep_clustering.training.precision import autocast
from deep_clustering.training.rows import Rows, describe_in_chunks

# Slope of the discriminators' LeakyReLU below zero.
_SLOPE = 0.2
_JUDGES = ("judge_of_clusters", "judge_of_style")


def draw_codes(n: int, n_clusters: int, style_dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws from both priors: one-hot clusters (n, n_clusters), and styles (n, style_dim)."""
    device = generator.device
    clusters = torch.randint(n_clusters, (n,), generator=generator, device=device)
    return memberships(clusters, n_clusters), torch.randn(n, style_dim, generator=generator, device=device)


def judgement_loss(judged_draws: Tensor, judged_codes: Tensor) -> Tensor:
    """One discriminator's part of (2) of logits (n, 1) each, scalar, in nats."""
    return F.softplus(-judged_draws).mean() + F.softplus(judged_codes).mean()


def deception_loss(judged_codes: Tensor) -> Tensor:
    """One discriminator's part of (3) of logits (n, 1), scalar, in nats."""
    return F.softplus(-judged_codes).mean()


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


@dataclass(kw_only=True)
class AAE(Decoding):
    """Adversarial autoencoder; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "aae"
    label_free_score: ClassVar[tuple[str, str]] = ("aae_loss", "min")
    shown: ClassVar = ("reconstruction", "loss_discriminators")

    style_dim: Annotated[int, Ge(1)]
    """Size of the style."""
    discriminators: list[Annotated[int, Ge(1)]]
    """Width of each hidden layer of both discriminators."""
    adversarial_learning_rate: Annotated[float, Ge(0), Le(10)]
    """Adam's rate in (2) and (3)."""
    noise: Annotated[float, Ge(0)]
    """Standard deviation of u, in which discriminators see draws and codes."""

    @property
    def n_outputs(self) -> int:
        """Logits of the clusters, then the style."""
        return self.n_clusters + self.style_dim

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape."""
        self.row_shape_ = tuple(row_shape)
        networks: dict[str, nn.Module] = {
            **self.coders(self.row_shape_, self.n_outputs),
            "judge_of_clusters": discriminator(self.n_clusters, self.discriminators, 1, _SLOPE),
            "judge_of_style": discriminator(self.style_dim, self.discriminators, 1, _SLOPE),
        }
        self.networks_ = {name: network.to(self.device_) for name, network in networks.items()}

    def codes(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Log probabilities of the clusters, and the style, of what the encoder gives."""
        logits, style = outputs.float().split([self.n_clusters, self.style_dim], dim=1)
        return torch.log_softmax(logits, dim=1), style

    def describe(self, features: np.ndarray) -> Described:
        """Most probable cluster, probabilities, and what the encoder gives of each row; no densities."""
        check_rows(features, self.name, self.row_shape_)
        encoder = self.networks_["encoder"].eval()

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            outputs = encoder(self.view.plain(batch))
            log_p, style = self.codes(outputs)
            p = log_p.exp()
            return p.argmax(dim=1), p, outputs, style.sum(dim=1), log_p

        return describe_in_chunks(describe, Rows(features, self.device_))._replace(log_density=None)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(Steps):
    """One training; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: AAE, data: Data) -> None:
        super().__init__(model, data)
        self._model = model
        self._decoder, *self._judges = (self.networks[name] for name in ("decoder", *_JUDGES))
        groups = {"adam": ["encoder", "decoder"], "judges": _JUDGES, "deceiver": ["encoder"]}
        self.optimisers = {}
        for name, networks in groups.items():
            parameters = [parameter for network in networks for parameter in self.networks[network].parameters()]
            rate = model.learning_rate if name == "adam" else model.adversarial_learning_rate
            self.optimisers[name] = make_optimiser(torch.optim.Adam, parameters, rate, model.device_)

    def begin(self, partition: Tensor | None) -> Tensor:
        """Clusters of the untrained network."""
        return self.assign()

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """(1), (2) and (3) on a batch of rows."""
        with autocast(self.precision, views.device):
            decoded = self._decoder(torch.cat(self._codes(views), dim=1))
        reconstruction = reconstruction_error(views, decoded)
        self._move("adam", reconstruction)
        codes = self._codes(views)
        draws = draw_codes(len(views), self._model.n_clusters, self._model.style_dim, self.data.generator)
        blurred = self._blurred
        judged = zip(self._judges, draws, codes, strict=True)
        judgement = _sum(
            judgement_loss(judge(blurred(draw)), judge(blurred(code.detach()))) for judge, draw, code in judged
        )
        self._move("judges", judgement)
        deception = _sum(deception_loss(judge(blurred(code))) for judge, code in zip(self._judges, codes, strict=True))
        self._move("deceiver", deception)
        return {"reconstruction": reconstruction, "loss_discriminators": judgement, "loss_encoder": deception}

    def _codes(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the clusters, and style."""
        with autocast(self.precision, views.device):
            outputs = self.network(views)
        log_p, style = self._model.codes(outputs)
        return log_p.exp(), style

    def _blurred(self, codes: Tensor) -> Tensor:
        """Codes or draws as discriminators see them."""
        generator = self.data.generator
        return codes + self._model.noise * torch.randn(codes.shape, generator=generator, device=codes.device)

    def _move(self, name: str, loss: Tensor) -> None:
        """One step of an optimiser; what others move is left alone."""
        self.optimisers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[name].step()

    @torch.inference_mode()
    def assign(self) -> Tensor:
        """Clusters of all rows."""
        with self.evaluation():
            return self.data.apply(lambda views: self._model.codes(self.network(views))[0].exp().argmax(dim=1))

    def finish(self, history: History) -> Tensor:
        """Clusters of all rows, and (1) of the last epoch."""
        history.final(aae_loss=torch.tensor(history.column("reconstruction")[-1]))
        return self.assign()
