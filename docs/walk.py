"""Type the commands of the tutorial anew, and put what they print now in the place of what they printed before.

    python docs/walk.py docs/tutorial.md FOLDER

FOLDER is a checkout of its own without runs: `git clone . FOLDER`. Of what a command prints, the page shows the lines
that say the same as the lines it shows already, numbers and identifiers apart; a line that nothing printed is an error.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from deep_clustering.atomic import write_text

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
ID = re.compile(r"\b[0-9a-f]{6,32}\b")
RUN = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}\b")
# What differs from run to run: times of versions, identifiers, numbers with sign and unit, and spaces that line up.
DIFFERS = re.compile(
    r"\d{4}-\d\d-\d\dT[\d.]+Z|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}\b|\b(?:\d+h)?(?:\d+m)?\d+s\b|[-+]?\d[\d.,:-]*"
    r"|\b(?:min|h|m|s)\b|[ -]{2,}"
)
# Before a line of the log; the page leaves out the time of day and what wrote the line.
CLOCK = re.compile(r"^\[?\d\d(?:\d\d-\d\d-\d\d \d\d)?:\d\d:\d\d[^ ]*\]? ?")

Command = Callable[[str], str]


def form(line: str) -> str:
    """Say what a line says whatever was measured."""
    return re.sub(r"#+", "#", DIFFERS.sub("#", line.strip()).replace(" ", ""))


def refill(shown: list[str], printed: list[str], runs: dict[str, str]) -> list[str]:
    """Take the lines of the page from what was printed, in the order of the page.

    Args:
        shown: lines of the page; `...` stands for any number of lines.
        printed: all that the command printed.
        runs: receives, for each identifier of a run on the page, the one in its place now.

    Raises:
        ValueError: nothing printed says what a line of the page says.
    """
    lines, place = [], 0
    for line in shown:
        if line.strip() in ("", "..."):
            lines.append(line)
            continue
        found = next((at for at in range(place, len(printed)) if form(printed[at]) == form(line)), None)
        if found is None:
            raise ValueError(f"no line printed says {line!r}; got:\n" + "\n".join(printed[place:]))
        runs.update(zip(RUN.findall(line), RUN.findall(printed[found]), strict=True))
        lines.append(printed[found].rstrip())
        place = found + 1
    return lines


def renamed(word: str, runs: dict[str, str]) -> str:
    """Return the beginning of the identifier that a run has now for the beginning of one on the page."""
    return next((now[: len(word)] for before, now in runs.items() if before.startswith(word)), word)


def retype(page: str, command: Command) -> str:
    """Run every command of a page in its order, and return the page with what they printed."""
    runs: dict[str, str] = {}

    def block(found: re.Match[str]) -> str:
        lines: list[str] = []
        for part in re.split(r"(?m)^(?=\$ )", found[1]):
            if not part:
                continue
            typed, *shown = part.splitlines()
            typed = ID.sub(lambda word: renamed(word[0], runs), typed)
            printed = command(typed.removeprefix("$ "))
            lines += [typed, *refill(shown, [CLOCK.sub("", line) for line in printed.splitlines()], runs)]
        return "```console\n" + "\n".join(lines) + "\n```"

    return BLOCK.sub(block, page)


def shell(folder: Path) -> Command:
    """Return what runs a command in a checkout, with its environment first on the path."""
    path = f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}

    def run(line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout

    return run


def main(page: Path, folder: Path) -> None:
    """Write a page anew from a checkout without runs."""
    write_text(page, retype(page.read_text(encoding="utf-8"), shell(folder.resolve())))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
