"""The lock of the packages agrees with pyproject.toml and is whole, without a network."""

import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MACHINES = [
    {"python_version": version, "python_full_version": f"{version}.9", **system}
    for version in ("3.11", "3.12", "3.13")
    for system in (
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    )
]


@cache
def read(name):
    """Requirements of a lock and the hashes of each."""
    lines = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ").splitlines()
    hashes = re.compile(r" --hash=sha256:([0-9a-f]{64})")
    return [(Requirement(hashes.split(line)[0]), hashes.findall(line)) for line in lines]


def pins(name, machine):
    """Version of each package on a machine."""
    environment = default_environment() | machine
    found = [one for one, _ in read(name) if one.marker is None or one.marker.evaluate(environment)]
    versions = {canonicalize_name(one.name): next(iter(one.specifier)).version for one in found}
    assert len(versions) == len(found)  # no package twice on one machine
    return versions


def asked(extra):
    """What pyproject.toml asks for, with an extra and those within it."""
    texts = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] if extra else [])]
    for one in map(Requirement, texts):
        if one.name == PROJECT["name"]:
            for inner in one.extras:
                yield from map(Requirement, PROJECT["optional-dependencies"][inner])
        else:
            yield one


@pytest.mark.parametrize(("name", "extra"), [("run", None), ("test", "dev")])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: "-".join(list(one.values())[::2]))
def test_all_that_is_asked_for_is_pinned_within_its_range(name, extra, machine):
    pinned = pins(name, machine)
    wrong = [
        f"{one} is pinned as {pinned.get(canonicalize_name(one.name))}: make lock"
        for one in asked(extra)
        if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"), prereleases=True)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["run", "test"])
def test_every_pin_is_exact_and_has_a_hash(name):
    for one, hashes in read(name):
        assert [part.operator for part in one.specifier] == ["=="], one
        assert hashes, one


def test_a_run_has_the_releases_that_the_tests_have():
    for machine in MACHINES:
        assert pins("run", machine).items() <= pins("test", machine).items()


def test_nothing_that_a_pinned_package_needs_here_is_left_out():
    """A file with hashes is installed without asking further, so that it has to be whole."""
    pinned = pins("test", {})
    for name, version in pinned.items():
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        if installed.version.split("+")[0] != version:  # installed by ranges
            continue
        for one in map(Requirement, installed.requires or []):
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                needs = f"{name} {version} needs {one}"
                assert one.specifier.contains(pinned[canonicalize_name(one.name)], prereleases=True), needs
