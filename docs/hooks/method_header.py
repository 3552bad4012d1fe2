"""The opening of a method's file as a page: prose, then its sections with equations, and deviations one by one."""

import ast
import re
from pathlib import Path
from textwrap import indent

_ITEM = re.compile(r"^    ([A-Z]\d+)\s+(.*)$")
_EQUATION = re.compile(r"^    \(\d+\)")
# Two spaces and more set off the option that switches a deviation.
_SWITCH = re.compile(r"^(.*?)\s{2,}([a-z_0-9]+(?:, [a-z_0-9]+)*)$")


def header_of(path: Path) -> str:
    """Markdown of the docstring that opens a file.

    Its sections begin with a line that is not indented and followed by indented ones. They keep their lines and
    columns, as symbols need it; equations, which the page typesets, are folded; numbered deviations become a table.

    Args:
        path: The file.

    Returns:
        Prose, then a heading and a block for each section.
    """
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return "\n\n".join(_section(block.splitlines()) for block in docstring.split("\n\n"))


def lengths_of(paths: list[Path]) -> str:
    """Markdown of a table of files of methods: lines, lines of the docstring that opens each, its numbered equations.

    Args:
        paths: The files.

    Returns:
        The table.
    """
    rows = ["| method | lines | of these the header | equations |", "|---|---|---|---|"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        header = (ast.get_docstring(ast.parse(text), clean=False) or "").splitlines()
        n_equations = sum(bool(_EQUATION.match(line)) for line in header)
        rows.append(f"| `{path.stem}` | {len(text.splitlines())} | {len(header)} | {n_equations} |")
    return "\n".join(rows)


def _section(lines: list[str]) -> str:
    n_head = next((number for number, line in enumerate(lines) if line.startswith("    ")), len(lines))
    head, body = " ".join(lines[:n_head]), lines[n_head:]
    if not body:
        return _prose(head)
    title = re.split(r"[,(;]", head)[0].strip()
    block = "\n".join(["```text", *(line.removeprefix("    ") for line in body), "```"])
    if title == "Equations":  # typeset above
        return f'??? note "{head}, as they open the file"\n\n{indent(block, "    ")}'
    parts = [f"## {title}"] if title == head else [f"## {title}", _prose(head)]
    parts.append(_deviations(body) if _ITEM.match(body[0]) else block)
    return "\n\n".join(parts)


def _prose(text: str) -> str:
    """The text with what Markdown would take for emphasis or HTML escaped, outside of backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<>])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _deviations(lines: list[str]) -> str:
    items: list[list[str]] = []
    for line in lines:
        item = _ITEM.match(line)
        if item:
            items.append([item[1], "", ""])
        switch = _SWITCH.match(item[2] if item else line.strip())
        text = switch[1] if switch else (item[2] if item else line.strip())
        items[-1][1] = f"{items[-1][1]} {text}".strip()
        if switch:
            items[-1][2] = ", ".join(f"`{name}`" for name in switch[2].split(", "))
    rows = [f"| {number} | {_cell(text)} | {options} |" for number, text, options in items]
    return "\n".join(["| | what | option |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")
