"""`kedro run` in a copy of the project, in this process or as a command of its own."""

import hashlib
import os
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner, Result
from kedro.framework.startup import bootstrap_project

from deep_clustering.cli import cli

# Small enough for a second or two; lists cannot be given on the command line, so the encoder stays as configured.
SMALL = {
    "ingestion.n_rows": 200,
    "kmeans.n_init": 2,
    "dcan.epochs": 2,
    "dcan.batch_size": 64,
    "dcan.restarts": 1,
    "dcan.start.kind": "none",
    "reporting.map_points": 50,
    "tracking.enabled": "false",
}


def params(**changes) -> str:
    """`--params` with the small options and others; two underscores stand for a dot."""
    merged = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return "--params=" + ",".join(f"{name}={value}" for name, value in merged.items())


def kedro_run(root: Path, *options: str) -> Result:
    """Run the project's pipelines in this process."""
    return kedro(root, "run", *options)


def kedro(root: Path, name: str, *words: str) -> Result:
    """Call a command of the project in this process."""
    with chdir(root):
        bootstrap_project(root)
        return CliRunner(env={"DO_NOT_TRACK": "true"}).invoke(cli.commands[name], words)


def command(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python with `words` in a process of its own, without a terminal."""
    settings = {"DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *words], cwd=root, env=os.environ | settings, check=False, capture_output=True, text=True
    )


def error_of(result: Result) -> str:
    """The message of a refused run: the only one, and without a traceback."""
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code != 0
    head, *messages = re.split(r"^Error: ", result.output, flags=re.MULTILINE)
    assert len(messages) == 1, result.output
    assert "Traceback" not in head
    return messages[0].strip()


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder; what Kedro-Viz notes of each run does not count."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".viz" not in path.parts
    }
