"""The page whose commands are typed anew: what is shown is what was printed, and what nobody printed is found."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("walk", ROOT / "docs/walk.py")
walk = importlib.util.module_from_spec(spec)
spec.loader.exec_module(walk)

OLD, NEW = "2bb3494eca304417b8dad8f05e20ec57", "8519ee6200c2485ea936e4016c2d7722"
PAGE = f"""# Page

```console
$ one
INFO    fit: done in 1.1 s (1 of 2)
...
INFO    tracked as run kmeans digits seed 0 ({OLD})
$ runs
{OLD[:8]} 2026-11-27 07:24 FINISHED  4m12s 0.792     -
$ again {OLD[:6]}
```
"""
PRINTED = {
    "one": f"""09:03:23 INFO    fit: done in 12 s (1 of 2)
09:03:24 INFO    not shown
09:03:25 INFO    tracked as run kmeans digits seed 0 ({NEW})
""",
    "runs": f"{NEW[:8]} 2027-01-02 10:00 FINISHED    58s 0.801     -\n",
    f"again {NEW[:6]}": "",
}


def test_the_page_shows_what_was_printed_and_names_the_runs_of_now():
    typed = []
    page = walk.retype(PAGE, lambda line: typed.append(line) or PRINTED[line])
    assert typed == list(PRINTED)
    assert (
        page
        == f"""# Page

```console
$ one
INFO    fit: done in 12 s (1 of 2)
...
INFO    tracked as run kmeans digits seed 0 ({NEW})
$ runs
{NEW[:8]} 2027-01-02 10:00 FINISHED    58s 0.801     -
$ again {NEW[:6]}
```
"""
    )


def test_a_line_that_nothing_printed_is_an_error():
    with pytest.raises(ValueError, match="no line printed says 'INFO    fit: done"):
        walk.retype(PAGE, lambda line: PRINTED[line].replace("fit", "train"))


def test_what_is_printed_before_the_line_above_does_not_count():
    with pytest.raises(ValueError, match="no line printed says 'b'"):
        walk.refill(["a", "b"], ["b", "a"], {})


def test_commands_are_typed_in_the_checkout_and_the_page_is_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console\n$ cat rows.txt\n3 rows\n```\n", encoding="utf-8")
    (tmp_path / "rows.txt").write_text("5 rows\n", encoding="utf-8")
    walk.main(page, tmp_path)
    assert page.read_text(encoding="utf-8") == "```console\n$ cat rows.txt\n5 rows\n```\n"


def test_every_block_of_the_tutorial_begins_with_a_command():
    blocks = walk.BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    assert len(blocks) > 5
    assert all(block.startswith("$ ") for block in blocks)
