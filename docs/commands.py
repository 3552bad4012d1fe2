"""Run every command of README and documentation in a checkout of its own, on stand-ins for a user's files.

    git clone . FOLDER && python docs/commands.py FOLDER [WORD ...]

FOLDER needs an environment: `FOLDER/.venv`, or a program `kedro` on the path. Neural methods train two epochs there,
since the question is whether a command works. WORDs choose the commands that hold one of them. What is not run is
printed with its reason; the exit status says whether all that ran ended as the page has it.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PROGRAM = r"(?:kedro|make|deep-clustering) [^`]+"
SECONDS = 1200
# As a page writes the number of a tracked run.
RUN = r"RUN_ID|\b[0-9a-f]{8}\b"
# Shown beside the error that they end with.
WRONG = {"kedro run --pipelines=neural_mixture --params=neural_mixture.epoch=10"}
NOT_RUN = {
    r"make (test|run$|docs|audit)": "has a test or a job of its own",
    r"make (ui|viz)": "a server, which does not end",
    r"--launcher=ray": "needs Ray, which is an extra",
    r"cifar10|reuters21578|mnist": "needs data that is not embedded",
    r"timm:": "needs weights of a network",
}


def typed(text: str) -> Iterator[str]:
    """Commands on lines of code."""
    for line in text.replace("\\\n", " ").splitlines():
        if found := re.fullmatch(rf"(?:    )?(?:\$ )?({PROGRAM})", line):
            yield re.sub(r"\s+(#|&& ).*", "", found[1])


def commands(checkout: Path) -> list[str]:
    """Commands of README and every page, each once, in the order of the pages."""
    pages = [checkout / "README.md", *sorted((checkout / "docs").rglob("*.md"))]
    return list(dict.fromkeys(line for page in pages for line in typed(page.read_text(encoding="utf-8"))))


def write_stand_ins(checkout: Path, home: Path) -> None:
    """Write what the commands read: digits as pictures and vectors, sentences about three things."""
    digits = load_digits()
    raw = checkout / "data/01_raw"
    for folder, rows in ((home / "pictures/pets", 300), (raw / "pets", 300), (checkout / "more", 20)):
        for row in range(rows):
            place = folder / str(digits.target[row])
            place.mkdir(parents=True, exist_ok=True)
            pixels = (digits.images[row] * 15.9).astype("uint8")
            Image.fromarray(pixels).resize((32, 32)).save(place / f"{row}.png")
    vectors = digits.data[:300].astype("float32")
    np.savez(raw / "birds.npz", embeddings=vectors, species=digits.target[:300])
    np.savez(raw / "counts.npz", vectors)
    np.save(raw / "counts_labels.npy", digits.target[:300])
    np.save(checkout / "new.npy", digits.images[:20, None].astype("float32") / 16)
    words = {"sea": "wave ship salt harbour", "kitchen": "oven spoon bread salt", "field": "plough cow harvest bread"}
    draw = np.random.default_rng(0)
    texts = [
        (topic, f"{row} " + " ".join(draw.choice(words[topic].split() * 3, 8))) for row in range(120) for topic in words
    ]
    columns = {"text": "text", "body": "body", "topic": "topic", "importance": "importance"}
    for path, encoding in (("texts.csv", "utf-8"), ("new.csv", "cp1252"), ("data/01_raw/notes.csv", "utf-8")):
        with (checkout / path).open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for row, (topic, text) in enumerate(texts):
                writer.writerow({"text": text, "body": text, "topic": topic, "importance": 1 + row % 2})
    (checkout / "feedback.csv").write_text("cluster,name,merge_into,split\n1,invoices,,\n", encoding="utf-8")


def shorten(checkout: Path) -> None:
    """Let the neural methods train two epochs."""
    for path in (checkout / "conf/base").glob("parameters*.yml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(?m)^(  epochs:) \d+\b(?!\.)", r"\1 2", text), encoding="utf-8")


class Shell:
    """Commands in a checkout, by its own environment."""

    def __init__(self, checkout: Path, home: Path) -> None:
        """Read the environment."""
        self.checkout = checkout
        path = f"{checkout / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = os.environ | {"PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1"}

    def run(self, line: str) -> tuple[int, str]:
        """Return the exit status of a command, and what it printed."""
        try:
            done = subprocess.run(
                line,
                shell=True,
                cwd=self.checkout,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            return 124, str(error.output)
        return done.returncode, done.stdout

    def prepare(self, line: str) -> str:
        """Put what there is in the place of what a page leaves open, and make room for what a command makes."""
        if (made := re.match(r"kedro new-data (\w+)", line)) and "--force" not in line:
            shutil.rmtree(self.checkout / "conf" / made[1], ignore_errors=True)
        if "export-clusters --to clusters" in line:
            shutil.rmtree(self.checkout / "clusters", ignore_errors=True)
        if "VERSION" in line:
            versions = sorted((self.checkout / "data/06_models/digits/dcan/model.safetensors").iterdir())
            line = line.replace("VERSION", versions[-1].name)
        if re.search(RUN, line):
            runs = json.loads(self.run("kedro runs --method=kmeans --status=finished --json")[1])
            line = re.sub(RUN, runs[0]["run_id"], line)
        return re.sub(r"(data/sweeps/)(NAME|<name>)", r"\1any", line)


# What a page takes for granted: runs of environments whose making is another page's, and a sweep.
BEFOREHAND = [
    "kedro new-data mine --text texts.csv --column text",
    "kedro run --pipelines=dcan --env=mine",
    "kedro new-data news --text texts.csv --column body",
    "kedro run --pipelines=dcan --env=news",
    "kedro sweep --envs=digits --pipelines=dcan,kmeans,ward --grid=dcan.loss=adversarial,euclidean --seeds=0,1"
    " --threads=1 --folder=data/sweeps/any",
    "kedro run --pipelines=kmeans",
]


def main(checkout: Path, words: list[str]) -> int:
    """Run all, print a line for each, and return how many ended otherwise than the page has it."""
    home = checkout / "build/home"
    write_stand_ins(checkout, home)
    shorten(checkout)
    shell, failed = Shell(checkout, home), 0
    chosen = [line for line in commands(checkout) if not words or any(word in line for word in words)]
    for line in [*BEFOREHAND, *chosen]:
        if reason := next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, line)), None):
            click.echo(f"not run        {line}: {reason}")
            continue
        started = time.monotonic()
        status, printed = shell.run(shell.prepare(line))
        is_right = (status == 0) != (line in WRONG)
        failed += not is_right
        click.echo(f"{'ok' if is_right else 'FAILED':6} {time.monotonic() - started:5.0f} s {line}")
        if not is_right:
            click.echo("    " + "\n    ".join(printed.splitlines()[-15:]))
    return failed


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]).resolve(), sys.argv[2:]), 1))
