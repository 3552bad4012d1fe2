"""The model registry: a name for each data set and method, a version for each training, one of them the champion.

The champion is chosen without labels: by the score that the method itself maximises or minimises, among trainings on
the same rows with the same number of clusters and the same views, across which a score says nothing. All else may
differ: seed, epochs, network, and where and in what pieces the same thing is computed. Where scores do not compare the
newest training is the champion, and the log says why; clusters that were changed by feedback have no score of a
training, and displace none that has.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deep_clustering.data.feature_options import LEARNED, WITHOUT_WEIGHTS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

CHAMPION = "champion"

_DATA, _OPTIONS = "data.sha256.samples", "options.sha256"
_SCORE_NAME, _SCORE = "score.name", "score.value"
_SETTLED = "champion.settled"
# How often the champion is compared again while other processes change it.
_ROUNDS = 20
# What must be equal of methods whose scores compare: clusters, views, and what else a score is defined by.
_OF_SCORE = ("n_clusters", "views", "n_neighbours", "temperature", "beta", "spaces", "entropy_weight")
# What may differ of the rows. The weights of a backbone are compared by their fingerprint and not by their place.
_FREE_OF_ROWS = ("device", "cache", "launcher", "batch_size", "weights")
# What the rows depend on with a backbone, an encoder, or neither.
_OF_BACKBONE, _OF_SAMPLES = ("size", "layer", "precision"), ("scaling",)
_OF_ENCODER = ("encoder", "pooling", "max_tokens", "lsa", "max_terms", "max_df", "min_df")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is compared of a training."""

    method: str
    """Name of the method."""
    options: Mapping[str, Any]
    """Its hyper-parameters."""
    features: Mapping[str, Any]
    """How its rows were made: the block `features`."""
    weights_sha256: str | None
    """Fingerprint of the weights of the backbone or the encoder; None without one."""
    data_sha256: str
    """Fingerprint of the samples."""
    score: tuple[str, str, float] | None
    """Name, direction (max or min is better) and value of the score that needs no labels; None for none."""


def register(client: "MlflowClient", name: str, model_id: str, run_id: str, training: Training) -> str:
    """Make a logged model the next version of a registered one, and the champion if it is better.

    A model that has its version already, from a process that was killed in between, gets no second one.

    Args:
        client: Client of the store.
        name: Name of the registered model, made if there is none.
        model_id: Id of the logged model.
        run_id: Its run.
        training: What it came of.

    Returns:
        Number of the version.

    Raises:
        MlflowException: if the store refuses.
    """
    _make_name(client, name)
    # Not models:/<id>, which MLflow would look up in its global store instead of this client's.
    source = str(client.get_logged_model(model_id).artifact_location)
    version = _find_version(client, name, run_id, source)
    if version is None:
        tags = _describe(training)
        version = client.create_model_version(name, source=source, run_id=run_id, tags=tags, model_id=model_id)
    number = str(version.version)
    if _SETTLED not in version.tags:
        _settle_champion(client, name, number, training)
        client.set_model_version_tag(name, number, _SETTLED, "true")
    return number


def is_settled(client: "MlflowClient", name: str, run_id: str, source: str) -> bool:
    """Whether a logged model has its version, and that has been compared with the champion.

    Args:
        client: Client of the store.
        name: Name of the registered model.
        run_id: The run of the logged model.
        source: Where its files are.

    Returns:
        True if `register` has nothing left to do.
    """
    version = _find_version(client, name, run_id, source)
    return version is not None and _SETTLED in version.tags


def _find_version(client: "MlflowClient", name: str, run_id: str, source: str) -> "ModelVersion | None":
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((version for version in found if version.source == source), None)


def _settle_champion(client: "MlflowClient", name: str, version: str, training: Training) -> None:
    """Give the alias to the best of the champion, this version, and those that are registered at the same time.

    The store has no operation that compares and sets, so this is repeated until nothing changes. Each process looks
    again behind its last change, and at all that others may have set meanwhile: whoever is last sees all.
    """
    settled = {str(one.version) for one in _versions(client, name) if _SETTLED in one.tags}
    direction = training.score[1] if training.score else "max"
    chosen = ""
    for _ in range(_ROUNDS):
        holder = best = _champion(client, name)
        for rival in _versions(client, name):
            if str(rival.version) not in settled and (best is None or _is_better(rival, best, direction)):
                best = rival
        chosen = str(best.version) if best is not None else version
        if holder is not None and str(holder.version) == chosen:
            break
        _set_champion(client, name, chosen, holder)
    if chosen == version:
        logger.info("registered as %s version %s, the champion: models:/%s@%s", name, version, name, CHAMPION)
    else:
        logger.info("registered as %s version %s; version %s stays champion", name, version, chosen)


def _set_champion(client: "MlflowClient", name: str, version: str, holder: "ModelVersion | None") -> None:
    """Give the alias to a version; a refusal because another process has given it away meanwhile passes."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(name, CHAMPION, version)
    except MlflowException:
        now = _champion(client, name)
        if now is None or (holder is not None and now.version == holder.version):
            raise


def _versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda one: int(one.version))


def _is_better(rival: "ModelVersion", champion: "ModelVersion", direction: str) -> bool:
    """Whether a version is to take the champion's place.

    Where scores do not compare the newest is, which is logged, unless it has no score and the champion has one.
    """
    new, old = rival.tags, champion.tags
    is_newer = int(rival.version) > int(champion.version)
    if _SCORE not in new:
        return is_newer and _SCORE not in old
    differs = next(
        (
            reason
            for reason, is_other in (
                ("was fitted to other samples", old.get(_DATA) != new.get(_DATA)),
                ("has other rows, clusters or views", old.get(_OPTIONS) != new.get(_OPTIONS)),
                (f"has no {new[_SCORE_NAME]} to compare with", old.get(_SCORE_NAME) != new[_SCORE_NAME]),
            )
            if is_other
        ),
        None,
    )
    if differs is None:
        ours, theirs = float(new[_SCORE]), float(old[_SCORE])
        return ours > theirs if direction == "max" else ours < theirs
    if is_newer:
        where = f"{champion.name} version {champion.version}"
        logger.info("%s %s: scores do not compare, the newest takes the alias", where, differs)
    return is_newer


def options_sha256(training: Training) -> str:
    """Fingerprint of what a score is of: rows, number of clusters, and views."""
    has_backbone, has_encoder = (training.features.get(name) is not None for name in ("backbone", "encoder"))
    unused = (
        *(() if has_backbone and training.features["backbone"] not in WITHOUT_WEIGHTS else _OF_BACKBONE),
        *(() if has_encoder else _OF_ENCODER),
        *(_OF_SAMPLES if has_backbone or has_encoder else ()),
        *(() if training.features.get("beside_gradients") else ("beside_gradients",)),
        *(() if training.features.get("backbone") == LEARNED else ("learned",)),
    )
    what = {
        "method": training.method,
        "options": {name: value for name, value in training.options.items() if name in _OF_SCORE},
        "features": _kinds(_without(training.features, (*_FREE_OF_ROWS, *unused))),
        "weights": training.weights_sha256,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _without(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _kinds(features: dict[str, Any]) -> dict[str, Any]:
    """The same with the kinds of encoders for their names: a model may lie elsewhere, and has its fingerprint."""
    if "encoder" not in features:
        return features
    encoders = [features["encoder"]] if isinstance(features["encoder"], str) else features["encoder"]
    return {**features, "encoder": [name.partition(":")[0] for name in encoders]}


def _describe(training: Training) -> dict[str, str]:
    """Tags of a version: what is compared of its training."""
    tags = {_DATA: training.data_sha256, _OPTIONS: options_sha256(training)}
    if training.score is not None:
        tags |= {_SCORE_NAME: training.score[0], _SCORE: repr(training.score[2])}
    return tags


def _make_name(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    alias = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if alias is None else client.get_model_version(name, str(alias))
