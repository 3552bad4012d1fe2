"""One training of NMM-EM: its E-step, its M-step, and the choice of a head; see `neural_mixture`."""

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import add
from typing import Protocol, final

import torch
from torch import Tensor, nn

from deep_clustering.methods.estimator import Idle
from deep_clustering.methods.heads import (
    agreement_of_best,
    bounds,
    comparable,
    late_rise,
    n_rounds,
    probable_numbers,
    rms_length,
)
from deep_clustering.methods.pair_mixture import (
    consistency_loss,
    e_step,
    log_relative_density,
    m_step_loss,
    mixing_weights,
    update_noise,
    update_shares,
)
from deep_clustering.methods.partitions import most_certain
from deep_clustering.training.averaging import Averaged
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.optimisers import OneCycle, Schedule, make_optimiser
from deep_clustering.training.precision import autocast
from deep_clustering.training.representations.learning import Learning
from deep_clustering.training.streams import stream
from deep_clustering.training.workers import current


class Mixture(Protocol):
    """What a training reads and moves of the model, a `NeuralMixture`: some options, and what ends in an underscore."""

    seed: int
    heads: int
    sizes: list[int]
    """Number of clusters of each head."""
    candidates: list[int]
    """Of those that may be kept."""
    origins: list[str]
    is_linear: bool
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    weight_prior: float
    density_scale: float
    consistency_weight: float
    mixing_momentum: float
    mixing_floor: float
    teacher_momentum: float
    estimate_noise: bool
    device_: torch.device
    encoder_: nn.Sequential
    learning_: Learning
    networks_: dict[str, nn.Module]
    log_mixing_weights_: Tensor
    noise_: Tensor

    @property
    def density(self) -> str:
        """Kind of the density."""

    @property
    def objective(self) -> str:
        """Reading of the paper."""

    @property
    def mixing(self) -> str:
        """Kind of the mixing weights."""

    def split(self, outputs: Tensor) -> Tensor:
        """Outputs of the network by head."""

    def core_of_epoch(self, epoch: int) -> float | None:
        """Share of each cluster's rows of which what is held is renewed in front of an epoch; None if it is not."""

    def normalise(self, data: Data) -> Tensor:
        """Settle the normalisers; clusters of all rows by each head."""

    def log_joint_of_fresh_pairs(self, data: Data, round_: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some or all rows, and weighted log densities of two fresh views of them."""

    def e_step_of_pairs(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """E-step of such pairs."""

    def keep(self, head: int) -> None:
        """Forget all heads but one."""


@final
class MixtureTraining(Idle):
    """One training of the mixture; see `deep_clustering.training.loop.Training`."""

    def __init__(self, model: Mixture, data: Data) -> None:
        self._model, self._data = model, data
        self._row_length = rms_length(data, model.encoder_[:-1]) if model.is_linear else 1.0
        if model.is_linear:
            with torch.no_grad():
                self._last_layer().weight.div_(self._row_length)
            # Both densities are blind to biases. What rounding leaves of their gradients would become steps at the rate
            # of the weights, and those of short rows so long that scores have no digits left.
            self._last_layer().bias.requires_grad_(False)
        learning_rate = model.learning_rate / self._row_length
        trained = [network for network in model.networks_.values() if not isinstance(network, Averaged)]
        optimiser = make_optimiser(
            torch.optim.AdamW,
            [parameter for network in trained for parameter in network.parameters()],
            learning_rate,
            model.device_,
            is_fused=False,
            eps=1e-8 * self._row_length,  # as the gradients
            weight_decay=model.weight_decay * self._row_length,  # AdamW multiplies it by the rate
        )
        n_steps = data.n_steps(model.batch_size, model.epochs)
        self.networks = dict(model.networks_)
        self.network = model.learning_.network
        self._teacher: Averaged | None = None
        if model.teacher_momentum:
            self._teacher = self.networks["teacher"] = Averaged(model.encoder_, model.teacher_momentum)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"encoder": optimiser}
        self.schedules: dict[str, Schedule] = {"encoder": OneCycle(optimiser, learning_rate, n_steps)}
        self._leading = torch.zeros(1, dtype=torch.int64, device=model.device_)  # the head that the history speaks of
        self._totals = torch.zeros(len(model.sizes), device=model.device_)  # log-likelihoods of the heads this epoch

    def begin(self, partition: Tensor | None) -> Tensor:
        """Set average responsibilities and weights, uniform or the partition's; clusters of the first head."""
        model = self._model
        self._log_shares = model.log_mixing_weights_
        if partition is not None and model.mixing != "uniform":
            log_held = self._log_memberships(partition).expand(-1, model.heads, -1)
            self._log_shares = update_shares(self._log_shares, log_held, 0.0, model.mixing_floor)
            model.log_mixing_weights_ = mixing_weights(self._log_shares, model.mixing)
        return self.assign()

    def stage(self, epoch: int, held: Tensor | None) -> int:
        """All epochs are alike, but that what is held may be renewed (N22)."""
        core = self._model.core_of_epoch(epoch)
        if held is not None and core is not None:
            held[:, : len(self._model.candidates)] = self._surest(core).unsqueeze(1)  # of an auxiliary head nothing is
        return 0

    @torch.inference_mode()
    def _surest(self, core: float) -> Tensor:
        """Clusters of a share of each cluster's rows, those of which the leading head is most certain; else -1."""
        model, encoder = self._model, self.networks["encoder"].eval()

        def scores(rows: Tensor) -> Tensor:
            with autocast(self.precision, rows.device):
                outputs = encoder(rows)
            return model.split(outputs.float()).index_select(1, self._leading)

        densities = log_relative_density(self._data.apply(scores), model.density, model.density_scale)
        joint = (densities + model.log_mixing_weights_.index_select(0, self._leading)).squeeze(1)
        (first, second), clusters = joint.topk(2, dim=1).values.unbind(dim=1), joint.argmax(dim=1)
        kept = most_certain(clusters.cpu().numpy(), (first - second).cpu().numpy(), core)
        return torch.from_numpy(kept).to(joint.device)

    def step(self, views: Tensor, index: Tensor, held: Tensor | None, small: Tensor | None = None) -> dict[str, Tensor]:
        """One E-step and M-step on the views of a batch."""
        model = self._model
        outputs, of_representation = model.learning_(views, small, self.precision)
        n_views, workers = 2 * len(outputs) // len(views), current()
        outputs, *of_teacher = workers.gather(n_views, outputs, *self._of_teacher(views, small))
        densities = self._densities(outputs, n_views)
        (density_a, density_b), log_pi = densities[:2], model.log_mixing_weights_
        log_joint = reduce(add, densities)
        log_responsibilities, of_pairs = e_step(log_joint.detach(), log_pi, model.noise_)
        if small is not None:
            of_pairs = e_step((density_a + density_b).detach(), log_pi, model.noise_)[1]
        if of_teacher:
            log_joint_of_teacher = reduce(add, self._densities(of_teacher[0], n_views))
            log_responsibilities, _ = e_step(log_joint_of_teacher, log_pi, model.noise_)
        log_likelihood = of_pairs.mean(dim=0)
        if held is None:
            loss = self._loss(densities, log_joint, log_responsibilities)
        else:
            memberships = held[index]
            is_free = memberships.unsqueeze(-1) < 0  # (B, 1 or heads, 1)
            log_held = torch.where(is_free, log_responsibilities, self._log_memberships(memberships))
            loss = m_step_loss(log_held, log_joint, log_pi)
        optimiser = self.optimisers["encoder"]
        optimiser.zero_grad(set_to_none=True)
        # The loss is of the whole batch with each worker, and so its gradients are of the share; the prior is not.
        (loss.sum() + self._prior() / workers.n + sum(of_representation.values())).backward()
        workers.sum_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
        optimiser.step()
        if model.mixing != "uniform":
            momentum, floor = model.mixing_momentum, model.mixing_floor
            self._log_shares = update_shares(self._log_shares, log_responsibilities, momentum, floor)
            log_pi = model.log_mixing_weights_ = mixing_weights(self._log_shares, model.mixing)
        if model.estimate_noise:
            model.noise_ = update_noise(model.noise_, log_responsibilities, model.mixing_momentum)
        self._totals += log_likelihood
        responsibilities = log_responsibilities.exp()
        agree = (density_a + log_pi).argmax(dim=-1) == (density_b + log_pi).argmax(dim=-1)
        terms = {
            "loss": loss,
            "log_likelihood": log_likelihood,
            "entropy": -(responsibilities * log_responsibilities).sum(dim=-1).mean(dim=0),
            "agreement": agree.float().mean(dim=0),
        }
        of_head = {name: term.index_select(0, self._leading).squeeze(0) for name, term in terms.items()}
        return of_head | of_representation

    def _densities(self, outputs: Tensor, n_views: int) -> list[Tensor]:
        """Log density of each view, each normalised over its views of the batch, n_views of (B, heads, n_clusters)."""
        model = self._model
        scores = model.split(outputs.float()).chunk(n_views)
        return [log_relative_density(of_view, model.density, model.density_scale) for of_view in scores]

    def _of_teacher(self, views: Tensor, small: Tensor | None) -> list[Tensor]:
        """Outputs of the average of the network for the same views (N20), shape (n_views b, d), if there is one."""
        if self._teacher is None:
            return []
        self._teacher.follow()
        parts = [views] if small is None else [views, small]
        with autocast(self.precision, views.device):
            return [torch.cat([self._teacher(part) for part in parts])]

    def _prior(self) -> Tensor | float:
        """Negative log prior of all heads' weights up to a constant, in nats (N18)."""
        if not self._model.weight_prior:
            return 0.0
        return self._model.weight_prior / 2 * self._row_length**2 * self._last_layer().weight.square().sum()

    def _last_layer(self) -> nn.Linear:
        last = self._model.encoder_[-1]
        assert isinstance(last, nn.Linear)
        return last

    def _log_memberships(self, partition: Tensor) -> Tensor:
        """Log responsibilities that say the same as a partition, shape (n, 1 or heads, n_clusters): 0 or -inf."""
        width = max(self._model.sizes)
        return (partition.unsqueeze(-1) == torch.arange(width, device=partition.device)).float().log()

    def _loss(self, densities: list[Tensor], log_joint: Tensor, log_responsibilities: Tensor) -> Tensor:
        """What the objective makes of a batch, shape (heads,), in nats."""
        objective, log_pi = self._model.objective, self._model.log_mixing_weights_
        if objective == "pair":
            return m_step_loss(log_responsibilities, log_joint, log_pi)
        density_a, density_b = densities
        own_a, own_b = e_step(density_a, log_pi)[0], e_step(density_b, log_pi)[0]
        single = m_step_loss(own_a, density_a, log_pi) + m_step_loss(own_b, density_b, log_pi)
        if objective == "single":
            return single
        consistency = consistency_loss(own_a, own_b)
        return consistency if objective == "consistency" else single + self._model.consistency_weight * consistency

    def close_epoch(self, epoch: int) -> dict[str, Tensor]:
        """The head of greatest log-likelihood in the epoch leads in the next."""
        candidates = comparable(self._totals, self._model.candidates, self._model.noise_)
        self._leading = candidates.argmax(dim=0, keepdim=True)
        self._totals.zero_()
        return {}

    def assign(self) -> Tensor:
        """Clusters of all rows by the leading head."""
        return self._model.normalise(self._data).index_select(1, self._leading).squeeze(1)

    def finish(self, history: History) -> Tensor:
        """Keep the head of greatest pair log-likelihood on fresh views (N11, N14)."""
        model, noise = self._model, self._model.noise_
        sizes = model.candidates
        of_rows = torch.zeros(len(self._data.rows), len(sizes), device=model.device_)
        rounds = n_rounds(len(self._data.rows))
        for round_ in range(rounds):
            for place, first, second in model.log_joint_of_fresh_pairs(self._data, round_):
                of_rows[place] += model.e_step_of_pairs(first, second)[1][:, : len(sizes)] / rounds
        log_likelihoods = of_rows.mean(dim=0)
        scores = comparable(log_likelihoods, sizes, noise)
        clusters = model.normalise(self._data)
        tried = clusters[:, : len(sizes)].unbind(dim=1)
        history.candidates(tried, scores, model.origins)
        if len(set(sizes)) > 1:
            history.selection(
                n_clusters=torch.tensor(sizes),
                bound=bounds(sizes, noise),
                log_likelihood=log_likelihoods,
                log_likelihood_deviation=of_rows.std(dim=0) / math.sqrt(len(of_rows)),
                probability=probable_numbers(
                    comparable(of_rows, sizes, noise), stream(model.seed, "numbers of clusters", model.device_)
                ),
            )
        head = int(scores.argmax())
        model.keep(head)
        value = log_likelihoods[head]
        share = value / bounds([sizes[head]], noise[head : head + 1])[0]
        history.final(log_likelihood=value, log_likelihood_share=share, pair_noise=noise[head])
        history.final(log_likelihood_rise=late_rise(history.column("log_likelihood")))
        if len(tried) > 1 and len(set(sizes)) == 1:
            history.final(candidate_agreement=agreement_of_best(tried, scores))
        return clusters[:, head]

    def tensors(self) -> dict[str, Tensor]:
        """Mixing weights, average responsibilities and the leading head."""
        log_pi = self._model.log_mixing_weights_
        return {
            "log_mixing_weights": log_pi,
            "log_shares": self._log_shares,
            "leading": self._leading,
            "noise": self._model.noise_,
        }

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self._model.log_mixing_weights_ = tensors["log_mixing_weights"]
        self._log_shares, self._leading = tensors["log_shares"], tensors["leading"]
        self._model.noise_ = tensors["noise"]
