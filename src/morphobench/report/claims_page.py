"""The table of claims: csv, and pages in the style of the other tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.files import atomic_path, write_text
from morphobench.report.claims import read_claims
from morphobench.report.layout import format_value, scale_line
from morphobench.report.render import environment
from morphobench.report.runs import MeasuredTable
from morphobench.report.scores import ScoreStore
from morphobench.report.verdicts import HOLDS, MISSING, judge_claims

PAPERS = {
    "cdcl": "CDCL (Haslum et al. 2023)",
    "dmitrenko": "Dmitrenko et al. (2022)",
    "cellpaintr": "CellPainTR",
    "mcvae": "mcVAE (Wang et al. 2023)",
}


@dataclass(frozen=True)
class ClaimLine:
    """A claim as shown; ``table`` is the one here that measures it, empty without any."""

    claim: str
    table: str
    statement: str
    compared: str
    published: str
    measured: str
    verdict: str
    reason: str

    @property
    def style(self) -> str:
        """The verdict as the name of a style."""
        return self.verdict.replace(" ", "-")


@dataclass(frozen=True)
class ClaimsView:
    """The claims of all papers as shown."""

    title: str
    scale: str
    summary: str
    papers: list[tuple[str, str, list[ClaimLine]]]


def make_claims(
    plan: Mapping[str, Any], stores: Sequence[tuple[Mapping[str, Any], ScoreStore]], published: str | Path
) -> list[Path]:
    """Judge every claim, print one line each, write ``claims.csv``, ``.md``, ``.html`` and ``.tex``; return them.

    Parameters
    ----------
    plan
        ``claims`` (path of the claims), ``scale`` and ``folder``.
    stores
        The plan of every table, as ``morphobench.specs.plan.Plan.table_plan`` makes it, and its scores.
    published
        Folder of the published numbers.
    """
    claims = read_claims(plan["claims"], published)
    tables = [MeasuredTable(table, store, published) for table, store in stores]
    frame = judge_claims(claims, tables, published)
    for row in frame.to_dict("records"):
        print(claim_line(row))
    print(summary(frame))
    folder = Path(plan["folder"])
    paths = [folder / "claims.csv"]
    with atomic_path(paths[0]) as part:
        frame.to_csv(part, index=False)
    view = claims_view(frame, plan["scale"])
    for kind in ("md", "html", "tex"):
        paths.append(folder / f"claims.{kind}")
        write_text(paths[-1], environment(kind).get_template(f"claims.{kind}.j2").render(table=view))
    return paths


def summary(frame: pd.DataFrame) -> str:
    """Return ``k of n claims measured, m hold``, and how many of the others are of which verdict.

    A claim that several tables measure holds if it holds in all of them.
    """
    verdicts = frame.groupby("claim", sort=False)["verdict"].agg(set)
    measured = sum(v != {MISSING} for v in verdicts)
    hold = sum(v - {MISSING} == {HOLDS} for v in verdicts)
    others = [f"{sum(word in v for v in verdicts)} {word}" for word in ("within noise", "does not hold")]
    text = f"{measured} of {len(verdicts)} claims measured, {hold} hold"
    words = [o.replace("does not", "do not") for o in others if not o.startswith("0 ")]
    return f"{text} ({', '.join(words)})." if words else f"{text}."


def claim_line(row: Mapping[str, Any]) -> str:
    """Return a claim in one line: id, verdict, what was found in which spread, the published difference."""
    text = f"{row['claim']}: {row['verdict']}: {row['statement']}"
    if row["verdict"] == MISSING:
        return f"{text} ({row['reason']})"
    digits = _digits(row)
    text += (
        f": {_measured(row, digits)}, paper {_number(row['published_difference'], digits, row)} [{row['table']}]"
    )
    return f"{text}; {row['reason']}" if row["reason"] else text


def claims_view(frame: pd.DataFrame, scale: str) -> ClaimsView:
    """Lay the claims out by paper."""
    papers = []
    for paper, group in frame.groupby("paper", sort=False):
        lines = [_line(row) for row in group.to_dict("records")]
        papers.append((str(paper), PAPERS.get(str(paper), str(paper)), lines))
    return ClaimsView("Published claims: which of them hold here", _sources(frame, scale), summary(frame), papers)


def _sources(frame: pd.DataFrame, scale: str) -> str:
    sources = set(frame["data"]) - {""}
    if sources <= {"simulated"}:
        return scale_line(scale, "simulated")
    if sources == {"real"}:
        return scale_line(scale, "real")
    tables = ", ".join(dict.fromkeys(frame.loc[frame["data"] == "simulated", "table"]))
    return f"Scale {scale}; simulated data: do not compare with published numbers: {tables}; the others real data."


def _line(row: Mapping[str, Any]) -> ClaimLine:
    digits = _digits(row)
    relation, _, target = row["relation"].partition("~")
    relation = {"diff": "minus", "ratio": "over"}.get(relation, relation)
    (left, _, first), (right, _, second) = (row[side].partition(": ") for side in ("left", "right"))
    left, right = (left, f"{right}: {first}") if first == second else (row["left"], row["right"])
    compared = f"{left} {relation} {right}" + (f" is about {target}" if target else "")
    measured = "" if row["verdict"] == MISSING else _measured(row, digits)
    published = _number(row["published_difference"], digits, row)
    table = "" if row["verdict"] == MISSING else row["table"].replace(";", ", ")
    return ClaimLine(
        row["claim"], table, row["statement"], compared, published, measured, row["verdict"], row["reason"]
    )


def _digits(row: Mapping[str, Any]) -> int:
    size = abs(row["published_difference"])
    if row["unit"] in ("percent", "hours") or size >= 10:
        return 1
    if row["unit"] == "area":
        return 4
    return 2 if size >= 0.1 else 3


def _number(value: float, digits: int, row: Mapping[str, Any]) -> str:
    text = format_value(value, digits)
    return f"+{text}" if value > 0 and row["unit"] != "ratio" else text


def _measured(row: Mapping[str, Any], digits: int) -> str:
    text = _number(row["measured_difference"], digits, row)
    if math.isfinite(row["low"]) and math.isfinite(row["high"]):
        text += f" [{_number(row['low'], digits, row)}, {_number(row['high'], digits, row)}]"
    runs = f"{row['runs']} run{'s' if row['runs'] > 1 else ''}"
    # Percentages differ by points.
    unit = {"ratio": "", "score": "", "percent": " points"}.get(row["unit"], f" {row['unit']}")
    return f"{text}{unit}, {runs}"
