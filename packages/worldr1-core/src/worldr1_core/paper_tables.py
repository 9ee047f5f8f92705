"""Tables of text for documents: GitHub-flavoured Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

LATEX_PREAMBLE = "% needs \\usepackage{booktabs}"
"""First line of a file of LaTeX tables."""
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "°": r"$^\circ$",
    "–": "--",
    "†": r"$^\dagger$",
}


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown.

    Example:
        >>> print(markdown_table(["set", "PSNR"], [["ours", "25.1"]]))
        | set | PSNR |
        |---|---|
        | ours | 25.1 |
    """
    return "\n".join([_markdown_row(headings), "|" + "---|" * len(headings), *map(_markdown_row, rows)])


def latex_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    below: Sequence[Sequence[str]] = (),
    note: str = "",
) -> str:
    r"""Return a table as LaTeX, which needs `\usepackage{booktabs}`.

    Args:
        title: Caption.
        headings: One per column. The first column is aligned to the left, the others are centred.
        rows: Cells.
        below: Further rows, under a line of their own.
        note: Small print under the table.
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(title)}}}",
        rf"\begin{{tabular}}{{l{'c' * (len(headings) - 1)}}}",
        r"\toprule",
        _latex_row(headings),
        r"\midrule",
        *map(_latex_row, rows),
        *([r"\midrule", *map(_latex_row, below)] if below else []),
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\footnotesize {escape_latex(note)}"] if note else []),
        r"\end{table}",
    ]
    return "\n".join(lines)


def escape_latex(text: str) -> str:
    r"""Return text in which no character has a meaning to LaTeX.

    Example:
        >>> print(escape_latex("50 % of a_b"))
        50 \% of a\_b
    """
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"
