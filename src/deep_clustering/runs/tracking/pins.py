"""The lock of the packages, `requirements/run.txt`, and how what is installed stands to it."""

import hashlib
import re
from pathlib import Path

from deep_clustering.runs.tracking.provenance import package_versions

LOCK = "requirements/run.txt"

# Tags of a run.
SHA256, BESIDE = "packages.lock", "packages.beside_lock"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_LONGEST = 500


def describe_lock(project_path: Path) -> dict[str, str]:
    """sha256 of the project's lock, and the installed packages that it pins otherwise.

    Args:
        project_path: Root of the project.

    Returns:
        Tags; none in a project without a lock, such as one that the installed package has made.
    """
    try:
        content = (project_path / LOCK).read_bytes()
    except OSError:
        return {}
    pins: dict[str, set[str]] = {}
    for name, version in _PIN.findall(content.decode("utf-8", "replace")):
        pins.setdefault(name, set()).add(version)  # one for each range of Pythons
    # A local part such as `+cpu` names a build, not a release.
    installed = package_versions(pins)
    beside = [f"{name}=={found}" for name, found in installed.items() if found.split("+")[0] not in pins[name]]
    return {SHA256: hashlib.sha256(content).hexdigest(), BESIDE: ", ".join(beside)[:_LONGEST] or "none"}
