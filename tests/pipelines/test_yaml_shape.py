"""Configuration files of another form are refused by name before they are read."""

import os
from pathlib import Path

import pytest

from deep_clustering.pipelines.yaml_shape import misshapen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "expected names and values, got a list"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 50 levels, in line 1"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "nested deeper than 50 levels"),
        ("- " * 100_000 + "a", "expected names and values, got a list"),
        ("? " * 100_000 + "a", "nested deeper than 50 levels, in line 1"),
        ("a: 1\nb: " + "{c: " * 60 + "1" + "}" * 60, "nested deeper than 50 levels, in line 2"),
        ("a: &a [1]\nb: [" + "*a, " * 1001 + "]", "more than 1000 aliases of blocks"),
    ],
)
def test_files_of_another_form_are_named(tmp_path, text, said):
    (tmp_path / "parameters.yml").write_text(text)
    assert misshapen([tmp_path, tmp_path / "none"]) == [f"{tmp_path / 'parameters.yml'}: {said}"]


def test_files_of_either_ending_and_in_folders_below_are_seen(tmp_path):
    (tmp_path / "below").mkdir()
    for file in ("below/catalog.yml", "catalog.yaml"):
        (tmp_path / file).write_text("- a\n")
    assert len(misshapen([tmp_path])) == 2


def test_a_pipe_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "parameters.yml")
    (tmp_path / "catalog.yml").mkdir()
    (tmp_path / "link.yml").symlink_to("nothing")
    said = f"{tmp_path / 'parameters.yml'}: expected a file, got a pipe, socket or device"
    assert misshapen([tmp_path]) == [said]


@pytest.mark.parametrize("text", ["", "a: {b: [1, {c: 2}]}", "a: [unclosed", "# nothing\n"])
def test_what_kedro_reads_or_refuses_is_left_to_it(tmp_path, text):
    (tmp_path / "parameters.yml").write_text(text)
    assert misshapen([tmp_path]) == []


def test_the_configuration_of_the_project_has_this_form():
    conf = Path(__file__).parents[2] / "conf"
    assert misshapen(path for path in conf.iterdir() if path.is_dir()) == []
