"""The model registry: a name for each data set and method, a version for each training, one of them the champion.

The champion is chosen without labels: by the score that the method itself maximises or minimises, among trainings on
the same samples with the same options but for the seed, as a score says nothing across views or numbers of clusters.
"""

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from deep_clustering.inference.predictor import Predictor

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger(__name__)

CHAMPION = "champion"

_DATA, _OPTIONS = "data.sha256.samples", "options.sha256"
_SCORE_NAME, _SCORE = "score.name", "score.value"
# What may differ between trainings whose scores compare.
_FREE = ("seed", "device", "record_every")


def register(client: "MlflowClient", name: str, model_id: str, run_id: str, predictor: Predictor) -> str:
    """Make a logged model the next version of a registered one, and the champion if it is better.

    Args:
        client: Client of the store.
        name: Name of the registered model, made if there is none.
        model_id: Id of the logged model.
        run_id: Its run.
        predictor: What was logged.

    Returns:
        Number of the version.

    Raises:
        MlflowException: if the store refuses.
    """
    _make_name(client, name)
    tags = {_DATA: predictor.preparation.data_sha256, _OPTIONS: _options_sha256(predictor)}
    if predictor.score is not None:
        tags |= {_SCORE_NAME: predictor.score.name, _SCORE: repr(predictor.score.value)}
    # Not models:/<id>, which MLflow would look up in its global store instead of this client's.
    source = client.get_logged_model(model_id).artifact_location
    version = client.create_model_version(name, source=source, run_id=run_id, tags=tags, model_id=model_id)
    champion = _champion(client, name)
    if champion is None or is_better(predictor, champion.tags, f"{name} version {champion.version}"):
        client.set_registered_model_alias(name, CHAMPION, version.version)
        logger.info("registered as %s version %s, the champion", name, version.version)
    else:
        logger.info("registered as %s version %s; version %s stays champion", name, version.version, champion.version)
    return str(version.version)


def is_better(predictor: Predictor, champion: dict[str, str], name: str) -> bool:
    """Whether a training is to take the champion's place.

    Args:
        predictor: The new training.
        champion: Tags of the champion's version.
        name: What to call the champion in the log.

    Returns:
        Whether its score is better; False if the two cannot be compared, which is logged.
    """
    score = predictor.score
    if score is None:
        return False
    if champion.get(_DATA) != predictor.preparation.data_sha256:
        logger.warning("%s was fitted to other samples: scores cannot be compared, move the alias by hand", name)
        return False
    if champion.get(_OPTIONS) != _options_sha256(predictor):
        logger.warning("%s was fitted with other options: scores cannot be compared, move the alias by hand", name)
        return False
    if champion.get(_SCORE_NAME) != score.name:
        logger.warning("%s has no %s to compare with, move the alias by hand", name, score.name)
        return False
    theirs = float(champion[_SCORE])
    return score.value > theirs if score.direction == "max" else score.value < theirs


def _options_sha256(predictor: Predictor) -> str:
    """Fingerprint of the options that a score depends on: the method's, and those of the rows."""
    options = {name: value for name, value in predictor.model.options.items() if name not in _FREE}
    what = {"method": predictor.model.method, "options": options, "features": predictor.preparation.options}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


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
