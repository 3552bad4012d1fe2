"""Kingdra: rows on which several networks agree are labels for all of them, and then more rows agree.

Gupta, Ramjee, Kwatra and Sivathanu, "Unsupervised clustering using pseudo-semi-supervised learning", ICLR 2020, and the
authors' code.

Symbols
    p_i^m       probabilities of member m of the ensemble  log_p                     (n, n_clusters)
    p_i'^m      of another view of the row
    c_i         clusters of row i, one of each member      codes                     (n, members)
    a_ij        members that put rows i and j together
    B_k, b_i    rows of pseudo-label k, which the members find; that of row i  agreed_sets, labels  (n,), -1: none
    H, mu, I    entropies, their balance, their weight     balance_weight, information_weight

Equations
    (1) loss        L = sum_m R_m + I (H(Y | X) - mu H(Y))_m + S_m
    (2) invariance  R_m = 1 / n sum_i KL(p_i^m || p_i'^m), the first argument being fixed
    (3) certain     row i is certain where max_k p_ik^m > certainty for all m
    (4) agreement   rows i and j belong together where a_ij = members, and apart where a_ij <= most_shared
    (5) labels      B_k = the largest set of certain rows that belong together, among the rows that are apart from
                    B_1, ..., B_(k-1)
    (6) supervised  S_m = sum_k 1 / |B_k| sum_(i in B_k) -ln p_(i, b_i)^m over the batch, by the sum of these weights
    (7) prediction  the largest value of p_i = 1 / members sum_m p_i^m

(5) is done anew every `round_epochs` epochs; the first round has no S_m.

Deviations from the paper, or choices where it is silent
    P1 members are plain networks with the entropies of IMSAT's (2) and (3) on both views; the paper has ladder networks
    P2 what is moved are views of the configuration, in the place of noise in all layers       views
    P3 all members see the same batches, and differ by their first weights
    P4 B_k holds certain rows only; in the authors' code all rows that belong together with one that is certain
    P5 labels are weighted (6) where they come by in a batch; the authors draw a second batch, equally of each B_k
    P6 where fewer than K sets are found, the labels from before remain, if there were any; the authors take the best
       ones from before. B_k gets the number by which the first member's clusters agree with it most; all learn that
    P7 restarts and runs compare by the likelihood of two views, (13) of `methods.dcan`, of the clusters (7)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from annotated_types import Ge, Lt
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deep_clustering.methods.classifying import OfViews, StepsOfViews
from deep_clustering.methods.imsat import conditional_entropy, invariance, marginal_entropy
from deep_clustering.training.loop import Data
from deep_clustering.training.precision import autocast


def agreed_sets(codes: np.ndarray, certain: np.ndarray, most_shared: int, n_sets: int) -> list[np.ndarray]:
    """Equation (5).

    Args:
        codes: Cluster of each row by each member, shape (n, members), int.
        certain: Equation (3), shape (n,), bool.
        most_shared: Members that may put rows of two sets together.
        n_sets: Number of sets, K.

    Returns:
        Rows of each set, ascending; fewer than K where no certain row is left.
    """
    of_code, code_of_row = np.unique(codes, axis=0, return_inverse=True)
    code_of_row = code_of_row.ravel()  # some versions of numpy give a column
    sizes = np.bincount(code_of_row[certain], minlength=len(of_code))
    found: list[np.ndarray] = []
    while len(found) < n_sets and sizes.max() > 0:
        code = sizes.argmax()
        found.append(np.flatnonzero(certain & (code_of_row == code)))
        sizes[(of_code == of_code[code]).sum(axis=1) > most_shared] = 0
    return found


def label_sets(sets: list[np.ndarray], clusters: np.ndarray) -> np.ndarray:
    """Labels of all rows: each set has the number of the cluster that shares most rows with it, one to one.

    Args:
        sets: Rows of each set, K of them.
        clusters: Clusters of all rows by one member, shape (n,).

    Returns:
        Shape (n,), int64; -1 where a row is in no set.
    """
    shared = np.stack([np.bincount(clusters[rows], minlength=len(sets)) for rows in sets])
    labels = np.full(len(clusters), -1, dtype=np.int64)
    for k, number in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        labels[sets[k]] = number
    return labels


def supervised_loss(log_p: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Equation (6); rows without a label have weight 0 and any label.

    Args:
        log_p: Log probabilities, shape (n, n_clusters).
        labels: Shape (n,), int64.
        weights: 1 / |B_k|, shape (n,).

    Returns:
        Scalar, 0 where no row has a label.
    """
    losses = F.nll_loss(log_p, labels.clamp_min(0), reduction="none")
    return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


@dataclass(kw_only=True)
class Kingdra(OfViews):
    """Kingdra; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "kingdra"
    shown: ClassVar = ("loss", "labelled")

    members: Annotated[int, Ge(2)]
    """Networks of the ensemble."""
    round_epochs: Annotated[int, Ge(1)]
    """Epochs between one choice of labels and the next."""
    certainty: Annotated[float, Ge(0), Lt(1)]
    """Probability above which a member is certain, (3)."""
    most_shared: Annotated[int, Ge(0)]
    """Members that may put two rows together that are apart, (4)."""
    information_weight: Annotated[float, Ge(0)]
    """I of (1)."""
    balance_weight: Annotated[float, Ge(0)]
    """mu of (1); above 1 it prefers clusters of one size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most_shared >= self.members:
            raise ValueError(f"most_shared must be below members, got {self.most_shared} and {self.members}")

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make new networks for rows of a shape: the first member is the encoder."""
        networks: dict[str, nn.Module] = {}
        for member in range(self.members):
            super().build(row_shape)
            networks[f"member_{member}" if member else "encoder"] = self.networks_["encoder"]
        self.networks_ = networks

    def log_p(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Log of (7), shape (n, n_clusters), and what is in front of the last layer of the first member."""
        latent, first = super().log_p(views)
        others = [torch.log_softmax(network(views), dim=1) for network in list(self.networks_.values())[1:]]
        return latent, torch.stack([first, *others]).logsumexp(dim=0) - np.log(self.members)

    def training(self, data: Data) -> "_Training":
        """A training of the networks that were built."""
        return _Training(self, data)


@final
class _Training(StepsOfViews):
    """One training; see `deep_clustering.training.loop.Training`."""

    model: Kingdra

    def __init__(self, model: Kingdra, data: Data) -> None:
        super().__init__(model, data)
        device, n_rows = data.rows.device, len(data.rows)
        self._labels = torch.full((n_rows,), -1, device=device)
        self._weights = torch.zeros(n_rows, device=device)

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """All epochs are alike but for the labels, which a step reads where they lie."""
        if epoch and epoch % self.model.round_epochs == 0:
            self._label()
        return 0

    @torch.inference_mode()
    def _label(self) -> None:
        """Equations (3) to (5)."""
        model = self.model

        def judge(rows: Tensor) -> Tensor:
            p = torch.stack([torch.softmax(network(rows), dim=1) for network in self.networks.values()], dim=1)
            surest, clusters = p.max(dim=2)
            return torch.cat([clusters, (surest > model.certainty).all(dim=1, keepdim=True)], dim=1)

        with self.evaluation():
            judged = self.data.apply(judge).cpu().numpy()
        codes = judged[:, :-1]
        sets = agreed_sets(codes, judged[:, -1] > 0, model.most_shared, model.n_clusters)
        if len(sets) < model.n_clusters:
            return
        labels = label_sets(sets, codes[:, 0])
        sizes = np.bincount(labels[labels >= 0], minlength=model.n_clusters)
        weights = np.where(labels >= 0, 1 / sizes[labels], 0)
        self._labels.copy_(torch.from_numpy(labels))
        self._weights.copy_(torch.from_numpy(weights))

    def step(self, views: Tensor, index: Tensor, held: Tensor | None) -> dict[str, Tensor]:
        """Equation (1) on two views of each row of a batch."""
        model, labels, weights = self.model, self._labels[index].repeat(2), self._weights[index].repeat(2)
        names = ("invariance", "entropy", "occupancy_entropy", "loss_labels")
        terms: dict[str, list[Tensor]] = {name: [] for name in names}
        for network in self.networks.values():
            with autocast(self.precision, views.device):
                logits = network(views)
            log_p = torch.log_softmax(logits.float(), dim=1)
            found = (
                invariance(*log_p.chunk(2)),
                conditional_entropy(log_p),
                torch.stack([marginal_entropy(view) for view in log_p.chunk(2)]).mean(),
                supervised_loss(log_p, labels, weights),
            )
            for name, term in zip(names, found, strict=True):
                terms[name].append(term)
        moved, conditional, marginal, supervised = (torch.stack(terms[name]) for name in names)
        information = conditional - model.balance_weight * marginal
        loss = (moved + model.information_weight * information + supervised).sum()
        self.descend(loss)
        return {"loss": loss} | {name: torch.stack(term).mean() for name, term in terms.items()}

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """Share of the rows that have a label."""
        return {"labelled": (self._labels >= 0).float().mean()}

    def tensors(self) -> dict[str, Tensor]:
        """Labels and their weights."""
        return {"labels": self._labels, "label_weights": self._weights}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self._labels, self._weights = tensors["labels"], tensors["label_weights"]
