"""Tables as Markdown, CSV, LaTeX and terminal text."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import textwrap
from typing import Any

from tabulate import SEPARATING_LINE, tabulate

from bench.record import spreadsheet_text
from reports.table import Level, Table, cell

WIDTH = 100
_LATIN_END = "\u0180"  # pdflatex has the letters before it
LABEL = 16  # longer row names take a second line, where their words allow
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2013": "--",
    "\u2018": "`",
    "\u2019": "'",
    "\u201c": "``",
    "\u201d": "''",
    "\u2212": "$-$",
    "\u2248": r"$\approx$",
    "\u2264": r"$\leq$",
    "\u2265": r"$\geq$",
    "\u0394": r"$\Delta$",
    "\u03a3": r"$\Sigma$",
    "\u03a9": r"$\Omega$",
    "\u03b1": r"$\alpha$",
    "\u03b2": r"$\beta$",
    "\u03b3": r"$\gamma$",
    "\u03b4": r"$\delta$",
    "\u03b5": r"$\varepsilon$",
    "\u03bb": r"$\lambda$",
    "\u03bc": r"$\mu$",
    "\u03c3": r"$\sigma$",
    "\u03c4": r"$\tau$",
    "\u00b2": "$^2$",
    "\u00b3": "$^3$",
    "\u00b5": r"$\mu$",
    "\u00d7": r"$\times$",
    "∞": r"$\infty$",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "…": r"\dots{}",
    "·": r"\textperiodcentered{}",
}


def to_markdown(table: Table) -> str:
    """GitHub Markdown with the best values bold; ends with a newline."""
    columns = table.shown("page")
    head = [_markdown(column.heading) for column in columns]
    rule = [":--" if table.is_text(column) else "--:" for column in columns]
    body = _cells(table, "page", lambda text, best: f"**{_markdown(text)}**" if best else _markdown(text))
    lines = [f"## {_markdown(table.title)}", "", _markdown(table.caption), ""]
    lines += ["| " + " | ".join(row) + " |" for row in [head, rule, *body]]
    if not body:
        lines += ["", "No runs."]
    if table.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Comma-separated values at full precision; an interval takes two columns, undefined is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    intervals = {column.key for column in table.columns if column.key.endswith("interval")}
    header: list[str] = []
    for column in table.columns:
        header += [f"{column.key}_low", f"{column.key}_high"] if column.key in intervals else [column.key]
    writer.writerow([*header, "published"])
    for row in table.rows:
        values: list[Any] = []
        for column in table.columns:
            value = row.get(column.key)
            values += (value or (None, None)) if column.key in intervals else [value]
        writer.writerow([*(_exact(value) for value in values), "yes" if row.get("published") else "no"])
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs table with escaped text, best values bold, a rule between data sets."""
    columns = table.shown("page")
    spec = "".join("l" if table.is_text(column) else "r" for column in columns)
    lines = [r"% needs \usepackage{booktabs} and \usepackage{graphicx}", r"\begin{table}", r"\centering"]
    lines += [
        rf"\caption{{{escape_latex(table.title + '. ' + table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
    ]
    lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
    lines += [" & ".join(escape_latex(column.heading) for column in columns) + r" \\", r"\midrule"]
    body = _cells(table, "page", lambda t, best: rf"\textbf{{{escape_latex(t)}}}" if best else escape_latex(t))
    for index, cells in enumerate(body):
        if index and table.rows[index].get("dataset") != table.rows[index - 1].get("dataset"):
            lines.append(r"\midrule")
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        lines += [
            r"\par\smallskip\footnotesize\raggedright",
            r"\\ ".join(escape_latex(n) for n in table.notes),
        ]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_text(table: Table) -> str:
    """Plain text for a terminal about 100 columns wide; `*` marks the best values."""
    # Published numbers need their reasons beside them, for which a terminal has no room.
    measured = dataclasses.replace(table, rows=[row for row in table.rows if not row.get("published")])
    columns = table.shown("terminal")
    body = _cells(measured, "terminal", lambda text, best: f"{text}*" if best else text)
    body = [[_two_lines(c.key, text) for c, text in zip(columns, row, strict=True)] for row in body]
    head = [_narrow(column.heading) for column in columns]
    align = ["left" if table.is_text(column) else "right" for column in columns]
    lines = [table.title]
    if body:
        # As rows the headings get no extra padding.
        rows = [head, SEPARATING_LINE, *body]
        lines.append(tabulate(rows, tablefmt="simple", colalign=align, disable_numparse=True))
    else:
        lines.append("no rows")
    notes = [note for note in table.notes if not note.startswith("Published")]
    lines += [textwrap.fill(f"- {note}", WIDTH, subsequent_indent="  ") for note in notes]
    return "\n".join(lines)


def escape_latex(text: str) -> str:
    """Text in which no character has a meaning for LaTeX; one that its fonts lack is told by its number."""
    # After a line break a leading bracket would open an optional argument.
    guard = "{}" if text.startswith("[") else ""
    return guard + "".join(_LATEX.get(c, c if c < _LATIN_END else rf"\texttt{{U+{ord(c):04X}}}") for c in text)


def _cells(table: Table, level: Level, mark: Any) -> list[list[str]]:
    best = table.best()
    return [
        [mark(cell(column, row.get(column.key)), (index, column.key) in best) for column in table.shown(level)]
        for index, row in enumerate(table.rows)
    ]


def _two_lines(key: str, text: str) -> str:
    return textwrap.fill(text, LABEL, break_long_words=False, break_on_hyphens=False) if key == "method" else text


def _narrow(heading: str) -> str:
    return textwrap.fill(heading, max(8, *(len(word) for word in heading.split())), break_long_words=False)


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\|*`<>])", r"\\\1", text)
    return escaped.replace("](", r"]\(").replace("\n", " ")


def _exact(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(spreadsheet_text(value))
