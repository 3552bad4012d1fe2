"""Credentials stay in conf/local: they reach no log, no tracking store and no file."""

import textwrap

import fsspec
import numpy as np
import pytest

from command_line import error_of, kedro_run, params

SECRETS = ("hush-of-the-bucket", "hush-of-the-server", "hush-of-a-parameter")
MEMORY = "/bucket/assignments.npy"


@pytest.fixture
def project(project):
    """The project with one output in a store that wants credentials."""
    (project / "conf/local").mkdir(exist_ok=True)
    (project / "conf/local/credentials.yml").write_text(f"bucket: {{key: me, secret: {SECRETS[0]}}}\n")
    catalog = f"""\
        "{{name}}_assignments":
          type: deep_clustering.datasets.NumpyDataset
          filepath: memory://{MEMORY}
          versioned: true
          credentials: bucket
          metadata: {{mlflow: artifact, method: "{{name}}", kedro-viz: {{layer: model_output}}}}
        """
    (project / "conf/local/catalog.yml").write_text(textwrap.dedent(catalog))
    yield project
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def given(monkeypatch):
    """What the file systems are opened with."""
    opened, filesystem = [], fsspec.filesystem

    def note(protocol, **options):
        opened.append((protocol, options))
        return filesystem(protocol)

    monkeypatch.setattr(fsspec, "filesystem", note)
    return opened


def leaks(folder):
    """Files below a folder that hold a secret, besides the one that is meant to."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "credentials.yml")
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


def tracked(**changes):
    return params(tracking__enabled="true", tracking__log_model="true", **changes)


def test_credentials_are_used_and_shown_nowhere(project, given, caplog, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with caplog.at_level("DEBUG", logger="deep_clustering"), caplog.at_level("DEBUG", logger="kedro"):
        result = kedro_run(project, "--pipelines=kmeans", tracked())
    assert result.exit_code == 0, result.output
    assert ("memory", {"key": "me", "secret": SECRETS[0]}) in given
    (saved,) = fsspec.filesystem("memory").find("/bucket")
    with fsspec.filesystem("memory").open(saved) as file:
        assert np.load(file).shape == (200,)
    assert not leaks(project)
    assert not any(secret in text for secret in SECRETS for text in (result.output, caplog.text))


def test_a_store_that_fails_does_not_show_its_credentials(project, given, caplog, monkeypatch):
    filesystem = fsspec.filesystem("memory")

    def refuse(*arguments, **options):
        raise PermissionError("access denied")

    monkeypatch.setattr(type(filesystem), "_open", refuse)
    found = error_of(kedro_run(project, "--pipelines=kmeans", params()))
    assert "kmeans_assignments" in found
    assert "access denied" in found
    assert not any(secret in text for secret in SECRETS for text in (found, caplog.text))
    assert not leaks(project)


@pytest.mark.parametrize("on_error", ["stop", "warn"])
def test_the_login_of_a_server_is_shown_nowhere(project, caplog, monkeypatch, on_error):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRETS[1]}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = kedro_run(project, "--pipelines=kmeans", "--nodes=kmeans.fit", tracked(tracking__on_error=on_error))
    shown = result.output + caplog.text
    assert "http://[redacted]@127.0.0.1:9" in shown
    assert not any(secret in shown for secret in SECRETS)
    assert not leaks(project)


def test_a_login_in_a_parameter_is_not_tracked(project, given, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = f"https://me:{SECRETS[2]}@host/data"
    result = kedro_run(project, "--pipelines=kmeans", tracked(ingestion__source__name=address))
    assert SECRETS[2] not in result.output
    store_files = [project / "mlflow.db", *(project / "mlartifacts").rglob("*")]
    assert not [path for path in leaks(project) if path in store_files]
    assert (project / "mlflow.db").exists()
