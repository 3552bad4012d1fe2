"""Who becomes champion while others register at the same moment, in a store whose every answer can be delayed."""

from itertools import permutations
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from deep_clustering.runs.tracking.registry import Training, register

NAME = "digits-dcan"


class Store:
    """What `register` asks of a client, in memory; `meanwhile` is done once, right before an alias is set."""

    def __init__(self):
        self.versions, self.aliases, self.meanwhile = [], {}, []

    def create_registered_model(self, name):
        pass

    def get_logged_model(self, model_id):
        return SimpleNamespace(artifact_location=model_id)

    def create_model_version(self, name, source, run_id, tags, model_id):
        made = SimpleNamespace(name=name, version=len(self.versions) + 1, source=source, run_id=run_id, tags=dict(tags))
        self.versions.append(made)
        return made

    def search_model_versions(self, text):
        run_id = text.rpartition("run_id = ")[2].strip("'") if "run_id" in text else None
        return [one for one in self.versions if run_id in (None, one.run_id)]

    def get_registered_model(self, name):
        return SimpleNamespace(aliases=dict(self.aliases))

    def get_model_version(self, name, version):
        return self.versions[int(version) - 1]

    def set_model_version_tag(self, name, version, key, value):
        self.versions[int(version) - 1].tags[key] = value

    def set_registered_model_alias(self, name, alias, version):
        is_first = alias not in self.aliases
        while self.meanwhile:
            self.meanwhile.pop(0)()
        if is_first and alias in self.aliases:  # SQLite adds a line, which another process has added
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed")
        self.aliases[alias] = version

    def add(self, score, direction="max", data="a" * 64):
        training = Training(
            method="dcan",
            options={},
            features={"backbone": None},
            weights_sha256=None,
            data_sha256=data,
            score=None if score is None else ("quality", direction, score),
        )
        where = f"model-{len(self.versions)}"
        return register(self, NAME, where, where, training)

    def champion(self):
        return self.versions[int(self.aliases["champion"]) - 1]


@pytest.mark.parametrize(("direction", "best"), [("max", "0.9"), ("min", "0.1")])
@pytest.mark.parametrize("scores", list(permutations([0.5, 0.9, 0.1])))
def test_the_best_is_champion_whoever_is_last_to_set_it(scores, direction, best):
    store = Store()
    first, second, third = scores
    store.meanwhile = [lambda: store.add(second, direction), lambda: store.add(third, direction)]
    store.add(first, direction)
    assert store.champion().tags["score.value"] == best


def test_the_newest_is_champion_where_scores_do_not_compare():
    store = Store()
    store.meanwhile = [lambda: store.add(0.1, data="b" * 64)]
    store.add(0.9)
    assert store.champion().version == 2


def test_one_that_a_person_has_chosen_stays_until_a_better_one_comes():
    store = Store()
    for score in (0.5, 0.9):
        store.add(score)
    store.aliases["champion"] = "1"
    store.add(0.4)
    assert store.champion().version == 1
    store.add(0.6)
    assert store.champion().version == 4


def test_a_store_that_refuses_the_alias_for_another_reason_is_told_of():
    def refuse():
        raise MlflowException("disk I/O error")

    store = Store()
    store.meanwhile = [refuse]
    with pytest.raises(MlflowException, match="disk I/O error"):
        store.add(0.5)
    store.add(0.5)
    store.meanwhile = [refuse]
    with pytest.raises(MlflowException, match="disk I/O error"):
        store.add(0.9)
