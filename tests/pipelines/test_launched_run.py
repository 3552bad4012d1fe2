"""`kedro run` by torchrun on two machines: one fit by both, and the outputs of one run."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from command_line import error_of, kedro, kedro_run, params


def start(root, rank: int, port: int, *words: str) -> subprocess.Popen:
    """Torchrun as a user calls it on the machine of a number, here all on this one."""
    place = ["--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}", "--master-addr=127.0.0.1"]
    call = [sys.executable, "-m", "torch.distributed.run", *place, f"--master-port={port}", "-m", "kedro", *words]
    environment = {**os.environ, "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(call, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)


def model(root, folder: str) -> dict[str, np.ndarray]:
    (file,) = (root / folder).glob("06_models/digits/dcan/model.safetensors/*/model.safetensors")
    return load_file(file)


@pytest.mark.slow
def test_two_machines_fit_as_two_processes_of_one_do(project):
    """Each is told of a folder of its own for the outputs, so that one that writes is seen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    small = {"dcan__start__kind": "none"}
    words = ("run", "--pipelines=dcan", "--to-nodes=dcan.fit")
    machines = [
        start(project, rank, port, *words, params(**small, output_folder=project / f"machine{rank}")) for rank in (0, 1)
    ]
    for machine in machines:
        said = machine.communicate()[1]
        assert machine.returncode == 0, said
    assert not (project / "machine1").exists()
    result = kedro_run(project, *words[1:], params(**small, parallel__workers=2, output_folder=project / "here"))
    assert result.exit_code == 0, result.output
    of_one = model(project, "here")
    of_two = model(project, "machine0")
    assert of_one.keys() == of_two.keys()
    for name, array in of_one.items():
        np.testing.assert_allclose(of_two[name], array, atol=1e-5, err_msg=name)


def test_torchrun_takes_runs_only(project, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    result = kedro(project, "sweep", "--envs=digits", "--pipelines=kmeans")
    assert error_of(result) == "torchrun takes run and resume, got sweep; call it without torchrun"
