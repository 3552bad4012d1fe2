r"""Equations in TeX as MathML, which browsers typeset without scripts and fonts from elsewhere.

A line `$$`, TeX, and a line `$$` make an equation of its own line; `\tag{3}` numbers it, and `\begin{aligned}` with
`\\` breaks it, which narrow screens need. Between single dollars TeX stands within a sentence. GitHub shows all of it.
"""

import re

from latex2mathml.converter import convert

_DISPLAYED = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<![\\$`\w])\$([^$\n]+)\$(?![$\w])")
_TAG = re.compile(r"\s*\\tag\{([^}]+)\}")
_FRAME = re.compile(r"\\(?:begin|end)\{aligned\}")


def with_mathml(markdown: str) -> str:
    """Replace all equations of a page by MathML.

    Args:
        markdown: Text of the page.

    Returns:
        The text, with an element `math` for each line of an equation.

    Raises:
        ValueError: if a command of TeX is not known.
    """
    displayed = _DISPLAYED.sub(_displayed, markdown)
    return _INLINE.sub(lambda found: f"<span>{_typeset(found[1], 'inline')}</span>", displayed)  # `math` begins a block


def _displayed(found: re.Match[str]) -> str:
    tag = _TAG.search(found[1])
    lines = _FRAME.sub("", _TAG.sub("", found[1])).split(r"\\")
    typeset = "".join(f"<div>{_typeset(line.strip(), 'block')}</div>" for line in lines)
    anchor = f' id="equation-{tag[1]}"' if tag else ""
    number = f'<span class="number">({tag[1]})</span>' if tag else ""
    return f'<div class="equation"{anchor}><div class="lines" tabindex="0">{typeset}</div>{number}</div>'


def _typeset(tex: str, display: str) -> str:
    mathml = convert(tex, display=display)
    unknown = re.search(r"\\\w+|>&<", mathml)
    if unknown:
        raise ValueError(f"'{unknown[0]}' cannot be typeset in the equation {tex}")
    return mathml
