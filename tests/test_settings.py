"""What Kedro asks of settings and registry again and again is made once, and nobody spoils it for another."""

import copy
import os

import pytest
from kedro.config import OmegaConfigLoader

from deep_clustering.pipeline_registry import register_pipelines
from deep_clustering.pipelines.namespaces import COMPARED
from deep_clustering.pipelines.parameters import packaged_conf
from deep_clustering.settings import CONFIG_LOADER_ARGS, ConfigLoader

ARGUMENTS = {"conf_source": str(packaged_conf()), "env": "digits", **CONFIG_LOADER_ARGS}


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """The kinds that Kedro's loader has read."""
    read, seen = OmegaConfigLoader.__getitem__, []
    monkeypatch.setattr(OmegaConfigLoader, "__getitem__", lambda loader, kind: seen.append(kind) or read(loader, kind))
    return seen


def test_a_kind_of_files_is_read_once_and_each_look_is_a_copy(looks):
    loader, expected = ConfigLoader(**ARGUMENTS), OmegaConfigLoader(**ARGUMENTS)["parameters"]
    looks.clear()
    loader["parameters"]["dcan"].clear()
    assert loader["parameters"] == loader["parameters"] == expected
    assert looks == ["parameters"]


def test_other_runtime_parameters_are_read_anew():
    loader = ConfigLoader(**ARGUMENTS)
    other = copy.copy(loader)
    other.runtime_params = {"seed": 7}
    assert [one["parameters"]["kmeans"]["seed"] for one in (loader, other, loader)] == [0, 7, 0]


def test_what_was_set_by_hand_is_what_is_got():
    loader = ConfigLoader(**ARGUMENTS)
    assert loader["globals"] != {"data_set": "mine"}
    loader["globals"] = {"data_set": "mine"}
    assert loader["globals"] == {"data_set": "mine"}


def test_pipelines_that_were_taken_away_or_chosen_otherwise_are_there_at_the_next_look():
    known = register_pipelines()
    names = list(known)
    known.clear()
    few = register_pipelines(["kmeans", "ward"])
    assert list(register_pipelines()) == list(few) == names

    def fitted(pipelines):
        return {node.namespace for node in pipelines["__default__"].nodes if node.name.endswith(".fit")}

    assert (fitted(few), fitted(register_pipelines())) == ({"kmeans", "ward"}, set(COMPARED))


@pytest.mark.parametrize("name", ["pipe", "pipe.zip", "pipe.tar.gz"])
def test_configuration_from_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    said = rf"^--conf-source: expected a folder or an archive, got a pipe, socket or device: {tmp_path / name}$"
    with pytest.raises(ValueError, match=said):
        ConfigLoader(**{**ARGUMENTS, "conf_source": str(tmp_path / name)})


@pytest.mark.parametrize("env", ["base", "mine", "local"])
def test_files_of_another_form_are_refused_wherever_configuration_is_read(tmp_path, env):
    for name in ("base", env):
        (tmp_path / name).mkdir(exist_ok=True)
    file = tmp_path / env / "parameters.yml"
    file.write_text("a: " + "[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match=rf"^{file}: nested deeper than 50 levels$"):
        ConfigLoader(**{**ARGUMENTS, "conf_source": str(tmp_path), "env": None if env == "local" else env})
