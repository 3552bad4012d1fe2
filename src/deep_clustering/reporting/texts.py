"""Plain sentences for the numbers and curves of a report."""

from fnmatch import fnmatchcase
from typing import NamedTuple


class MetricText(NamedTuple):
    """Name of a metric, what it says, and whether the highest value of a column is the best one."""

    label: str
    sentence: str
    ranks: bool


METRICS = {
    "acc": MetricText(
        "Accuracy (ACC)",
        "Share of samples in the class their cluster stands for, after the best one-to-one matching of "
        "clusters and classes.",
        True,
    ),
    "nmi": MetricText(
        "NMI",
        "Normalised mutual information of clusters and classes: 0 when unrelated, 1 when they agree.",
        True,
    ),
    "ari": MetricText(
        "ARI",
        "Agreement over pairs of samples, corrected for chance: 0 is what chance gives, 1 is perfect.",
        True,
    ),
    "purity": MetricText(
        "Purity",
        "Share of samples in the most frequent class of their cluster; clusters may share a class.",
        True,
    ),
    "ece": MetricText(
        "Calibration error (ECE)",
        "Mean difference between the certainty of a sample and how often such samples are in the matched class: 0 when "
        "certainties, which are found without labels, can be taken at their word.",
        False,
    ),
    "oracle_gap": MetricText(
        "Oracle gap",
        "Accuracy that the choice among this run's candidates (heads, restarts or numbers of clusters) lost, made "
        "without labels: the best candidate's minus the chosen one's; 0 when the best was chosen.",
        False,
    ),
    "candidate_acc_mean": MetricText(
        "Mean accuracy of candidates",
        "Mean ACC of the candidates among which one was chosen without labels: what a blind draw would have given.",
        False,
    ),
    "n_clusters_suggested": MetricText(
        "Suggested clusters", "Number of clusters with the greatest log-likelihood as a share of its bound.", False
    ),
    "n_clusters_probability": MetricText(
        "Probability of that number",
        "Share of the resamplings of the samples in which the suggested number won.",
        False,
    ),
    "n_clusters_off": MetricText(
        "Clusters off", "Suggested number of clusters minus the number of classes; 0 is right.", False
    ),
    "n_occupied": MetricText("Clusters in use", "Number of clusters that hold at least one sample.", False),
    "balance": MetricText(
        "Balance", "Evenness of the cluster sizes: 1 when all are equal, 0 when one holds everything.", False
    ),
    "largest_share": MetricText("Largest share", "Share of the samples in the largest cluster.", False),
    "stability": MetricText(
        "Stability",
        "Share of samples that kept their cluster between the last two snapshots of training.",
        True,
    ),
    "neighbour_score": MetricText(
        "Neighbour score",
        "How well the clusters explain which rows lie near each other, in nats; 0 where they say nothing. It needs no "
        "labels and decides what is recommended.",
        True,
    ),
    "silhouette": MetricText(
        "Silhouette",
        "How much closer samples are to their own cluster than to the next in the latent space, "
        "from -1 to 1; uses no labels.",
        True,
    ),
    "silhouette_of_features": MetricText(
        "Silhouette of the features",
        "How much closer samples are to their own cluster than to the next in the features that all methods are given, "
        "from -1 to 1; uses no labels. It prefers round clusters, which k-means looks for.",
        True,
    ),
    "cpu_seconds": MetricText("CPU seconds", "Processor time of the fit, over all threads.", False),
    "peak_memory_mb": MetricText("Peak MB", "Largest memory use of the process during the fit, of 2^20 bytes.", False),
    "log_likelihood": MetricText(
        "Log-likelihood",
        "Mean per sample in nats; higher is better, but only runs of one method with one setting compare.",
        False,
    ),
    "log_likelihood_rise": MetricText(
        "Log-likelihood's last rise",
        "Nats that the last tenth of the epochs gained on the tenth before: near 0 where training converged.",
        False,
    ),
    "candidate_agreement": MetricText(
        "Agreement of the best two",
        "Adjusted Rand index of the two candidates of greatest score: below 0.95 they found different clusters, and "
        "another seed may find others again.",
        False,
    ),
    "pair_noise": MetricText(
        "Pair noise",
        "Probability that two views of a sample have nothing in common, as the model has it in the end.",
        False,
    ),
    "log_likelihood_share": MetricText(
        "Log-likelihood share",
        "Log-likelihood as a share of its bound, log K without pair noise: 1 for balanced clusters that are hard and "
        "the same on both views; compares numbers of clusters and uses no labels.",
        True,
    ),
    "agreement": MetricText(
        "Agreement of views",
        "Share of training samples whose two views fall into the same cluster, in the last epoch.",
        False,
    ),
    "within_share": MetricText(
        "Within-cluster share", "Share of the latent variance left within clusters; lower is tighter.", False
    ),
    "view_information": MetricText(
        "Information shared by views",
        "What the cluster of one random view tells of that of another, in nats; at most log K, for balanced clusters "
        "that both views agree on. It prefers clusters of one size.",
        False,
    ),
    "chance_information": MetricText(
        "Information by chance",
        "What the clusters of two views would share if views knew nothing of each other, in nats: the most of 19 "
        "permutations of the samples.",
        False,
    ),
    "pair_log_likelihood": MetricText(
        "Log-likelihood of pairs",
        "Mean log-likelihood, in nats, of two views of a sample under hard clusters of the shares that they have; at "
        "most the entropy of the shares, for clusters that both views agree on. Runs and restarts are compared by it.",
        False,
    ),
    "pair_loss": MetricText(
        "Pair loss",
        "TEMI's loss of the head that was kept, in nats: lower is better; heads and runs are compared by it.",
        False,
    ),
    "objective": MetricText(
        "Objective",
        "TURTLE's objective: cross-entropy of a classifier that learned the labels in a few steps, minus the weighted "
        "entropy of the shares; lower is better, and runs of one setting are compared by it.",
        False,
    ),
    "imsat_loss": MetricText(
        "IMSAT's loss",
        "IMSAT's loss in the last epoch: what the clusters change by where rows are moved a little, minus the weighted "
        "information that they have of the rows; lower is better, and runs of one setting are compared by it.",
        False,
    ),
    "aae_loss": MetricText(
        "AAE's reconstruction",
        "How far rows are from what the decoder makes of their cluster and style, in the last epoch; lower is better, "
        "and runs of one setting are compared by it.",
        False,
    ),
    "elbo": MetricText(
        "Bound of the likelihood",
        "VaDE's lower bound of the mean log-likelihood of a row, in nats, at the mean of its latent; higher is better, "
        "and runs of one setting are compared by it.",
        False,
    ),
    "js_divergence": MetricText(
        "JS divergence",
        "How well the discriminator tells draws around the centroids from latents, at most ln 2 nats: "
        "0 when it sees no difference.",
        False,
    ),
    "entropy": MetricText(
        "Entropy", "Mean entropy of the responsibilities in nats: 0 when every assignment is hard.", False
    ),
    "occupancy_entropy": MetricText(
        "Occupancy entropy",
        "Entropy of the cluster sizes in nats: log K when all are equal, 0 after a collapse.",
        False,
    ),
}

# pattern of a column's name -> what to look for in its curve; the first that fits decides
CURVES = {
    "discriminator*accuracy*": (
        "Share that the discriminator judges rightly, of draws around the centroids (positive) or of latents "
        "(negative). Near the dashed level .5 on both sides it cannot tell them apart; near 1 on both it has won and "
        "teaches the encoder little."
    ),
    "js_divergence": (
        "How well the discriminator tells draws around the centroids from latents: between 0 and ln 2 nats (dashed), "
        "and below 0 while it errs, as an untrained one may. Falls to 0 as the latents take the shape of the mixture; "
        "a curve at ln 2 means that the discriminator has won."
    ),
    "*log_likelihood*": (
        "Should rise and flatten. The dashed line, where drawn, is the bound, reached by balanced clusters that are "
        "hard and the same on both views."
    ),
    "*loss*": "A loss should settle; adversarial losses settle at a level rather than fall to zero.",
    "reconstruction": (
        "How far decoded latents are from their rows. Falls in the epochs that reconstruct alone; a rise where the "
        "clustering begins is what the clustering costs. It is 0 where the decoder rests."
    ),
    "clustering": "What the clustering adds to the loss, 0 in the epochs that reconstruct alone; should then settle.",
    "invariance": (
        "How much the clusters change where rows are moved a little: should stay near 0. A rise means that borders run "
        "through dense regions."
    ),
    "known": ("Share of the pairs of a batch that are learned from. Rises to 1 as the thresholds approach each other."),
    "together": (
        "Share of the pairs of a batch that are to have one cluster: 1/K for balanced clusters. Near 1 all rows have "
        "become one."
    ),
    "labelled": "Share of the rows on which all networks agree and that teach them. Should grow from round to round.",
    "n_occupied": "Clusters in use at each snapshot; the dashed line is the number asked for or suggested.",
    "largest_share": (
        "Share of the samples in the largest cluster: 1/K when all are equal. A large cluster is no collapse where "
        "the data have one; a rise until the others are empty is."
    ),
    "view_information": (
        "What the clusters of two views of a sample tell of each other, in nats: at most the entropy of the cluster "
        "sizes. Should rise; at or below the information by chance the clusters explain nothing."
    ),
    "chance_information": (
        "What clusters of these sizes would share if views knew nothing of each other: the most of 19 permutations."
    ),
    "churn_between_snapshots": (
        "Share of samples that changed cluster since the snapshot before; should fall towards zero."
    ),
    "churn": (
        "Share of samples that changed cluster since the epoch or snapshot before; should fall towards zero. A level "
        "that stays up means that clusters keep trading samples."
    ),
    "agreement": (
        "Share of samples whose two views fall into the same cluster; should rise towards 1. At 1/K it is chance; at 1 "
        "from the start, look whether one cluster holds everything."
    ),
    "within_share": (
        "Share of the latent variance left within clusters, between 0 and 1; falls as the clusters tighten. It should "
        "not rise again."
    ),
    "entropy": (
        "Mean entropy of the responsibilities: falls from log K, dashed where drawn, towards zero as assignments "
        "become hard. A fall within the first epochs is a choice made too early."
    ),
    "occupancy_entropy": (
        "Entropy of the cluster sizes: log K, dashed, when all are equal, 0 when one cluster holds everything. Data "
        "of unequal groups stay below log K; a fall towards 0 is a collapse."
    ),
    "agreement_with_the_classes": "Computed after training for the record; training never sees the classes.",
    "*": "A flat end means that this quantity had settled when training stopped.",
}


def describe_metric(name: str) -> MetricText:
    """Text of a metric; a name that is not known is shown as it is."""
    unknown = MetricText(humanise(name), "Diagnostic that the method reports about itself.", False)
    return METRICS.get(name, unknown)


def describe_curve(name: str) -> tuple[str, str]:
    """Title and caption of a learning curve: what it is and what to look for."""
    caption = next(text for pattern, text in CURVES.items() if fnmatchcase(name, pattern))
    return describe_metric(name).label, caption


def humanise(name: str) -> str:
    """Column name as a title."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def format_number(value: float | int | None) -> str:
    """Three decimals, whole numbers in full, a dash for a missing value."""
    if value is None or value != value:
        return "\N{EN DASH}"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:z.3f}"


def format_in_units(value: float) -> str:
    """A number of a table: four digits, or all of those before the point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:z.4g}"
