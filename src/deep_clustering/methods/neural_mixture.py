"""NMM-EM: a neural mixture model trained by batch-wise EM.

Tissera et al., "Neural mixture models with expectation-maximization for end-to-end deep clustering",
arXiv 2107.02453, Neurocomputing 505 (2022). The equations of the paper are not available to us beyond its abstract;
what follows is a formulation that keeps its idea: the final layer plus a transformation give the density of each
cluster, the forward pass is the E-step, the backward pass the M-step, and consistency between views is part of it.

The nearest published relative is Self-Classifier: Amrani, Karlinsky and Bronstein, "Self-supervised classification
network", ECCV 2022, arXiv 2103.10994. Its softmax over the batch is the exponential density (1), up to a factor. What
differs is the loss: there a cross-entropy between the posteriors of the two views, with targets from that softmax and
predictions from one over the clusters, divided by its sum over the batch; here the likelihood of the pair (3), in which
both views have the same density, with an E-step and mixing weights.

Symbols
    a_ik      relevance score, the network's output for sample i and cluster k      scores
    f_k(x)    density of cluster k relative to the data distribution                exp(log_density)
    pi_k      mixing weight                                                         exp(log_mixing_weights)
    gamma_ik  responsibility                                                        exp(log_responsibilities)
    H         heads: mixtures that share all layers but the last                    heads
    z_i       projection of the input of the last layer                             projections

Equations
    (1) exponential density  log f_ik = a_ik - log mean_j exp(a_jk)
    (2) sigmoid density      log f_ik = log s(c h_ik) - log mean_j s(c h_jk),  h = a standardised over the batch
        Both integrate to one over the sample, which rules out the trivial solution f = const.
    (3) pair mixture         p(x, x') = sum_k pi_k f_k(x) f_k(x'),  two views independent given the cluster
    (4) E-step               gamma_ik = pi_k f_k(x_i) f_k(x'_i) / p(x_i, x'_i)
    (5) M-step               one optimiser step on -(1/B) sum_ik gamma_ik [log pi_k + log f_k(x_i) + log f_k(x'_i)]
        By Fisher's identity its gradient is that of -(1/B) sum_i log p(x_i, x'_i).
    (6) bound                mean log p(x, x') <= log K for pi = 1/K, reached by clusters that are balanced, hard and
        the same on both views: a score of a run that needs no ground truth. With (9) it is log((1 - e) K + e),
        for e of at most a half
    (7) one view             p(x) = sum_k pi_k f_k(x), responsibilities and EM as above with f_k(x') left out
    (8) consistency          -(1/B) sum_i log sum_k gamma_k(x_i) gamma_k(x'_i), the one-view responsibilities of (7)
        By Bayes' rule p(x, x') = p(x) p(x') sum_k gamma_k(x) gamma_k(x') / pi_k: for uniform weights the pair
        mixture is EM on each view plus consistency of weight one, exactly.
    (9) pair noise           p(x, x') = (1 - e) sum_k pi_k f_k(x) f_k(x') + e: with probability e the two views have
        nothing in common, as a neighbour that is none; responsibilities then sum to less than one
    (10) its M-step          e = (1/B) sum_i (1 - sum_k gamma_ik), a moving average
    (11) more views          p(x_1, .., x_V) = sum_k pi_k prod_v f_k(x_v), EM as above; for V = 2 it is (3)

Readings of the paper (`objective`)
    pair                     (3) to (5): EM and consistency as one model; the default
    single                   (7): EM on each view by itself; any hard partition is optimal
    consistency              (8) alone
    single_and_consistency   (7) plus `consistency_weight` times (8)

Deviations from the paper, or choices where it is silent
    N1 the constant of the transformation is the batch mean, so every density integrates to exactly one
    N2 the exponential density is the default; the sigmoid of the paper, with a scale, is an option
    N3 no gradient flows through the responsibilities
    N4 mixing weights are uniform; or learned: a moving average of the responsibilities with a floor; or neutral:
        proportional to its square. Hard clusters of shares s_k that both views agree on have mean log p =
        sum_k s_k (log pi_k - 2 log s_k), greatest at s_k proportional to sqrt(pi_k). So uniform weights pull towards
        equal clusters, learned ones too (the root of any pi is flatter), and neutral ones leave the shares alone.
        The floor is a Dirichlet prior on the shares: s = (1 - a) mean gamma + a / K is the mode of the posterior of B
        samples under pseudo-counts of B a / ((1 - a) K) each. It is mixed in at every update: with momentum m shares
        settle at a floor of a / (1 - (1 - a) m) in a's place
    N6 consistency is not a second loss but the pair mixture (3); the other readings are options
    N7 a small convolutional or fully connected network instead of the paper's; ResNet-18 is an option
    N8 affine views for images, term dropout or noise for vectors, neighbours for features
    N9 AdamW with a one-cycle learning rate
    N10 prediction uses the training set's normalisers, found in one pass after training
    N11 several heads are trained side by side; the one of greatest pair log-likelihood (3) on fresh views is kept
    N12 a partition may stand in for the E-step's responsibilities in the first epochs: that of the merged components
        of a mixture of more clusters (of the rows near the middle of their cluster; the others keep the E-step's),
        or of k-means, Ward or a t-SNE map of the rows. Or one for each head: heads are fitted first, and what they
        agree on, their best, and partitions of the rows are continued side by side     methods/consensus.py
        Trainings may take turns with several starts, and compare as in N15
    N14 of a range of K one head for each is trained; the K of greatest log-likelihood as a share of (6) is kept
    N15 of several trainings the one of greatest pair log-likelihood on fresh views is kept
    N16 one more head, of more clusters, may shape the trunk with the others; it is never kept
    N17 a loss of representation learning on z may shape the trunk with the mixture, as the paper's "along with
        existing representation learning methods" allows; it is added to the M-step's loss      representation
    N18 a network of one trained layer has its first weights, its learning rate, decay and prior in units of the root
        mean square length of what that layer sees, so that no fit depends on its scale; the prior is Gaussian, on the
        weights of the last layer                                                               weight_prior
    N19 rows may have weights: the rows of an epoch and those of the final normalisers are a systematic sample in
        proportion to them, whose expected sums are the weighted ones. Starts, and the likelihoods that heads and
        trainings compare by, count each row once
    N20 an average of the network, which follows it, may do the E-step in its place             teacher_momentum
    N21 a row may have further views of small parts, beside two (11); log-likelihoods that are noted, chosen by and
        compared are those of the first two                                                     views
    N22 the network may begin with the trunk of another, and a partition that was found there may be held for the rows
        that it is most certain of: those are observed, and of the others EM finds the cluster. Then what the network
        itself sees in rows without random views may be held, anew for each epoch and for a growing share of the rows,
        as in curriculum labelling (Cascante-Bonilla et al., arXiv 2001.06001)                  start
    N23 the one layer may see random waves of a row in the place of its values. By (1) a cluster that is linear in the
        values, f_k ~ exp(w^T x), is greatest at the end of all rows in a direction w: those that lie between others, as
        the middle ones of four groups in a line, overlap almost wholly, and the likelihood makes one of them. Waves
        have length one, as rows of embeddings, and of points on a sphere none lies between others    encoder

The functions behind the equations are in `pair_mixture`, what several heads need is in `heads`, the steps of a training
in `mixture_training`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from deep_clustering.checks import check_features, check_rows
from deep_clustering.methods.all_rows import (
    MOST_AT_ONCE,
    Normaliser,
    counted_pieces,
    densities_of_pairs,
    normaliser_at_once,
    normaliser_in_pieces,
)
from deep_clustering.methods.heads import head_sizes, keep_head, n_rounds, uniform_weights, warn_of_small_batches
from deep_clustering.methods.mixture_starts import find_starts
from deep_clustering.methods.mixture_training import MixtureTraining
from deep_clustering.methods.pair_mixture import e_step
from deep_clustering.methods.starts import (
    STARTS,
    Given,
    GivenStart,
    check_drawn_rows,
    check_given,
    check_turns,
    epochs_before,
    held_epochs,
    make_start,
    origins,
    turns_of,
)
from deep_clustering.options import check_fields
from deep_clustering.training.checkpoints import Checkpoints
from deep_clustering.training.described import Described, Describing
from deep_clustering.training.fitting import fit, make_data
from deep_clustering.training.history import History
from deep_clustering.training.loop import Data
from deep_clustering.training.networks import MLP, Fourier, load_module, make_encoder, module_arrays
from deep_clustering.training.representations import make_representation
from deep_clustering.training.representations.learning import Learning
from deep_clustering.training.rows import Rows, describe_in_chunks, joined, resolve_device
from deep_clustering.training.streams import seeded, stream
from deep_clustering.training.views import check_sizes, make_view

# What is learned for each cluster of each head besides the last layer.
_OF_HEADS = ("log_mixing_weights_", "score_mean_", "score_std_", "log_normaliser_")


@dataclass(kw_only=True)
class NeuralMixture(Describing):
    """The neural mixture model; fields are its hyper-parameters, learned state ends in an underscore."""

    name: ClassVar = "neural_mixture"
    label_free_score: ClassVar = ("log_likelihood", "max")
    shown: ClassVar = ("log_likelihood", "agreement")
    trains_in_parallel: ClassVar = True
    dropped: ClassVar[dict[str, str]] = {"calibration": "dropped in 0.3.0; leave it out, it did not help"}

    n_clusters: Annotated[int, Ge(2)] | dict[str, int]
    """Number of clusters K, or min and max of a range in which one is suggested."""
    seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    """Seed of initialisation, shuffling and views."""
    device: str
    """auto, cpu, cuda, ..."""
    density: Literal["exponential", "sigmoid"]
    """Equation (1) or (2)."""
    density_scale: Annotated[float, Ge(1e-3)]
    """c of the sigmoid density."""
    objective: Literal["pair", "single", "consistency", "single_and_consistency"]
    """The reading of the paper. It has no say while a partition is held (N12, N22): the M-step is then (5), with the
    held cluster of a row or, of a row that is not held, the responsibilities (4) of the pair. Up to a constant that is
    (7) on each view with the same responsibilities; (8) has no part in it."""
    consistency_weight: Annotated[float, Ge(0)]
    """Weight of (8) in the objective single_and_consistency."""
    mixing: Literal["uniform", "learned", "neutral"]
    """Mixing weights (N4)."""
    mixing_momentum: Annotated[float, Ge(0), Le(1)]
    """Share of the old average in each update, when not uniform."""
    mixing_floor: Annotated[float, Ge(0), Le(1)]
    """Smallest average responsibility as a share of 1 / K, when not uniform."""
    pair_noise: Annotated[float, Ge(0), Le(0.99)]
    """Probability e that the views of a pair have nothing in common (9), as neighbours that are none."""
    estimate_noise: bool
    """Whether e only begins there and is estimated, for each head by itself (10)."""
    heads: Annotated[int, Ge(1)]
    """Mixtures trained side by side on one trunk, of which the best by (3) is kept."""
    auxiliary_clusters: Annotated[int, Ge(0)]
    """Clusters of one more head beside them (N16), which is never kept; 0 for none."""
    representation: dict[str, Any]
    """Loss of representation learning beside the mixture (N17): kind and its options."""
    teacher_momentum: Annotated[float, Ge(0), Lt(1)]
    """Of the average of the network that does the E-step (N20); 0: the network does it itself."""
    start: dict[str, Any]
    """Partition held for the first epochs (N12): kind and its options."""
    restarts: Annotated[int, Ge(1)]
    """Trainings from derived seeds, of which the best by (3) is kept (N15)."""
    views: dict[str, Any]
    """Random views: kind and its options."""
    encoder: dict[str, Any]
    """Network: kind and its options."""
    epochs: Annotated[int, Ge(1)]
    """Passes over the rows."""
    batch_size: Annotated[int, Ge(2)]
    """Rows in a batch (each gives two views)."""
    learning_rate: Annotated[float, Ge(0), Le(10)]
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Ge(0), Le(1)]
    """AdamW's decay."""
    weight_prior: Annotated[float, Ge(0), Le(1)]
    """Strength of a Gaussian prior on the weights of a head: half of it times their squared length is added (N18)."""
    precision: Literal["auto", "fp32", "bf16"]
    """fp32, bf16, or auto, the faster: of the training steps' network passes; everything else is fp32."""
    compile: Literal["auto", "off"]
    """auto compiles the network for training steps on CUDA, if the training is long and a trial is faster."""
    record_every: Annotated[int, Ge(1)]
    """Epochs between snapshots of the assignments."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.auxiliary_clusters and self.mixing != "uniform":
            raise ValueError(f"auxiliary_clusters: more than 0 needs mixing = uniform, got {self.mixing}")
        self._start = make_start(self.start, tuple(STARTS))
        self.given_: Given | None = None
        self.candidates = head_sizes(self.n_clusters, self.heads, self.mixing, str(self.start["kind"]))
        self.sizes = self.candidates + [self.auxiliary_clusters] * (self.auxiliary_clusters > 0)
        self.view, self.network = make_view(self.views, takes_small=True), make_encoder(self.encoder)
        check_sizes(self.view, self.encoder)
        if self.view.n_small and self.objective != "pair":
            raise ValueError(f"views: more than two of a row need objective = pair, got {self.objective}")
        self.n_outputs = len(self.sizes) * max(self.sizes)
        self.is_linear = isinstance(self.network, Fourier) or (
            isinstance(self.network, MLP) and not self.network.hidden
        )
        self.learned_representation = make_representation(self.representation)
        check_drawn_rows(self._start, max(self.candidates))
        check_turns(self._start, self.restarts, tuple(STARTS))
        self.epochs_before = epochs_before(self._start, self.epochs)
        self.held_epochs = held_epochs(self._start, self.epochs)
        self.origins, self.turns = origins(self._start, self.heads), turns_of(self._start)

    def fit(
        self,
        features: np.ndarray,
        neighbours: np.ndarray | None = None,
        checkpoints: Checkpoints | None = None,
        weights: np.ndarray | None = None,
        given: Given | None = None,
    ) -> Self:
        """Train on the rows by batch-wise EM.

        Args:
            features: Shape (n_samples, n_features), dense or CSR, or (n_samples, channels, height, width); float.
            neighbours: Nearest rows of each row, shape (n_samples, k), for views of kind neighbours.
            checkpoints: Where the state of the training is kept, and continued from; None for nowhere.
            weights: How much each row counts, shape (n_samples,), above 0; batches are drawn in proportion.
            given: The trunk and the partition of a start of kind given (N22).

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the features, what is given, the device or a checkpoint cannot be used.
            FloatingPointError: if a term of the loss stops being finite.
        """
        width = max(self.sizes)
        check_features(features, width, "neural_mixture")
        n_batch = min(self.batch_size, features.shape[0])
        if width > n_batch:
            option = "n_clusters" if width == max(self.candidates) else "auxiliary_clusters"
            raise ValueError(
                f"neural_mixture: {option} must be at most batch_size, got {width} for batches of {n_batch}: a density "
                "is normalised over a batch"
            )
        warn_of_small_batches(n_batch, features.shape[0], max(self.candidates))
        check_given(self._start, given, features.shape[0], max(self.candidates))
        self.given_, self.device_ = given, resolve_device(self.device)
        self.history_ = fit(self, features, neighbours, checkpoints, weights).arrays()
        return self

    def build(self, row_shape: tuple[int, ...]) -> None:
        """Make a new network and uniform mixing weights for rows of a shape, and what is to stand beside it."""
        self._build(row_shape, self.sizes)
        last = self.encoder_[-1]
        assert isinstance(last, nn.Linear)
        if self.given_ is not None:
            load_module("trunk", self.encoder_[:-1], self.given_.trunk)
        self.learning_ = Learning(self.learned_representation, self.encoder_, last.in_features, self.device_)
        self.networks_ = self.learning_.networks

    def _build(self, row_shape: tuple[int, ...], sizes: list[int]) -> None:
        """The same for heads of so many clusters, all as wide as the widest."""
        self.row_shape_ = tuple(row_shape)
        network = self.network.build(self.view.output_shape(self.row_shape_), len(sizes) * max(sizes))
        self.encoder_ = network.to(self.device_)
        self.log_mixing_weights_ = uniform_weights(sizes, self.device_)
        self.noise_ = torch.full((len(sizes),), float(self.pair_noise), device=self.device_)
        self.score_mean_ = torch.zeros_like(self.log_mixing_weights_)
        self.score_std_ = torch.ones_like(self.score_mean_)
        self.log_normaliser_ = torch.zeros_like(self.score_mean_)

    def training(self, data: Data) -> MixtureTraining:
        """A training of the network that was built."""
        return MixtureTraining(self, data)

    def core_of_epoch(self, epoch: int) -> float | None:
        """Share of each cluster's rows of which what is held is renewed in front of an epoch (N22), or None."""
        return self._start.core_of_epoch(epoch, self.epochs) if isinstance(self._start, GivenStart) else None

    def restart_score(self, history: History) -> float:
        """Pair log-likelihood on fresh views as a share of its bound: deviation N15."""
        return history.newest_final("log_likelihood_share")

    def find_partition(
        self, features: np.ndarray, neighbours: np.ndarray | None, precision: str, checkpoints: Checkpoints | None
    ) -> Tensor | None:
        """The partition that is held for the first epochs, (n_samples, 1) or one for each head, or None: N12."""
        partitions = find_starts(self, self._start, features, neighbours, precision, checkpoints)
        if partitions is None:
            return None
        return torch.from_numpy(partitions).to(self.device_)

    def pair_responsibilities(self, features: np.ndarray, neighbours: np.ndarray | None) -> np.ndarray:
        """Responsibilities of pairs of fresh views of the training rows, equation (4), averaged over several pairs.

        Args:
            features: The training rows.
            neighbours: Nearest rows of each row, for views of kind neighbours.

        Returns:
            Shape (n_samples, n_clusters), float32.
        """
        data = make_data(self, features, neighbours)
        total = torch.zeros(len(data.rows), self.log_mixing_weights_.shape[1], device=self.device_)
        rounds = n_rounds(len(data.rows))
        for round_ in range(rounds):
            for place, first, second in self.log_joint_of_fresh_pairs(data, round_):
                log_responsibilities, _ = self.e_step_of_pairs(first, second)
                total[place] += torch.softmax(log_responsibilities[:, 0], dim=1)
        return (total / rounds).cpu().numpy()

    @torch.inference_mode()
    def log_joint_of_fresh_pairs(self, data: Data, round_: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Weighted log f_k of fresh views of all rows, normalised over all rows.

        Yields:
            Some rows or all of them, and of their first and second views shape (n, heads, n_clusters).
        """
        self.encoder_.eval()

        def scores() -> Iterator[Tensor]:
            generator = stream(self.seed, "fresh views", self.device_, round_)
            return (self.split(self.encoder_(views)) for views in data.fresh_pairs(generator))

        start, n_scores = 0, self.log_mixing_weights_.numel()
        for pair in densities_of_pairs(scores, len(data.rows), n_scores, self.density, self.density_scale):
            first, second = (view.add_(self.log_mixing_weights_) for view in pair)
            yield slice(start, start + len(first)), first, second
            start += len(first)

    def e_step_of_pairs(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """E-step of pairs given as `log_joint_of_fresh_pairs` gives them."""
        log_pi = self.log_mixing_weights_
        return e_step(first + second - 2 * log_pi, log_pi, self.noise_)

    def split(self, outputs: Tensor) -> Tensor:
        """The network's outputs by head, shape (n, heads, n_clusters)."""
        return outputs.view(len(outputs), *self.log_mixing_weights_.shape)

    @torch.inference_mode()
    def normalise(self, data: Data) -> Tensor:
        """Normalisers of the densities over all training rows (N10); returns each head's clusters, (n, heads)."""
        self.encoder_.eval()

        def score(views: Tensor) -> Tensor:
            return self.split(self.encoder_(views))

        if len(data.rows) * self.log_mixing_weights_.numel() > MOST_AT_ONCE:
            counted = counted_pieces(lambda: data.pieces(score), data.rows.times())
            self._take(normaliser_in_pieces(counted, self.density, self.density_scale))
            clusters = (self._log_joint(piece).argmax(dim=-1).to(torch.int16) for piece in data.pieces(score))
            return joined(clusters, len(data.rows))
        scores = data.apply(score)
        self._take(normaliser_at_once(data.rows.in_proportion(scores), self.density, self.density_scale))
        return self._log_joint(scores).argmax(dim=-1)

    def _take(self, found: Normaliser) -> None:
        self.score_mean_, self.score_std_, self.log_normaliser_ = found

    def _relevance(self, scores: Tensor) -> Tensor:
        found = Normaliser(self.score_mean_, self.score_std_, self.log_normaliser_)
        return found.relevance(scores, self.density, self.density_scale)

    def _log_joint(self, scores: Tensor) -> Tensor:
        """Weighted log densities log pi_k + log f_k of plain views, shape (n, heads, n_clusters)."""
        return self._relevance(scores) - self.log_normaliser_ + self.log_mixing_weights_

    def keep(self, head: int) -> None:
        """Forget all heads but one."""
        size = self.sizes[head]
        keep_head(self.encoder_, head, max(self.sizes), size)
        for name in _OF_HEADS:
            setattr(self, name, getattr(self, name)[head : head + 1, :size].clone())
        self.noise_ = self.noise_[head : head + 1].clone()

    def describe(self, features: np.ndarray) -> Described:
        """argmax_k pi_k f_k(x), responsibilities (7), activations in front of the last layer, and log p(x), in nats.

        p is relative to the data distribution.
        """
        check_rows(features, "neural_mixture", self.row_shape_)
        self.encoder_.eval()
        trunk, last = self.encoder_[:-1], self.encoder_[-1]

        def describe(batch: Tensor) -> tuple[Tensor, ...]:
            latent = trunk(self.view.plain(batch))
            joint = self._log_joint(self.split(last(latent)))[:, 0]
            return joint.argmax(dim=1), torch.softmax(joint, dim=1), latent, torch.logsumexp(joint, dim=1), joint

        return describe_in_chunks(describe, Rows(features, self.device_))

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Weights, mixing weights and normalisers."""
        arrays = {name.rstrip("_"): getattr(self, name)[0].cpu().numpy() for name in _OF_HEADS}
        return {"row_shape": np.array(self.row_shape_), **arrays, **module_arrays("encoder", self.encoder_)}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over what `get_arrays` gave."""
        self.device_ = resolve_device(self.device)
        with seeded(self.seed, self.device_):  # first weights are drawn, and then replaced
            self._build(tuple(int(side) for side in arrays["row_shape"]), [len(arrays["log_mixing_weights"])])
        load_module("encoder", self.encoder_, arrays)
        for name in _OF_HEADS:
            setattr(self, name, torch.tensor(arrays[name.rstrip("_")], device=self.device_).unsqueeze(0))
        return self
