"""A simulated gene embedding of a pooled screen, with complexes and functional groups, as the mcVAE files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import SpecError
from morphobench.simulate.phenotypes import unit_rows
from morphobench.simulate.raw import RawFolder, csv_bytes, parquet_bytes, parse

_NOTEBOOK = (
    "https://raw.githubusercontent.com/Genentech/contrastive-ops/e90d17eaffd90063c2311be9808982184e573507/notebook"
)
_CORUM = (
    "https://raw.githubusercontent.com/recursionpharma/EFAAR_benchmarking/"
    "2248f400630abfb711bb442be7e29a34c70d4720/efaar_benchmarking/benchmark_annotations"
)
EMBEDDING = f"{_NOTEBOOK}/df_standardized_mitosis.parquet"
FUNCTIONS = f"{_NOTEBOOK}/modified_functional_clusters.json"
PAIRS = f"{_CORUM}/CORUM.txt"
COMPLEXES = f"{_CORUM}/CORUM_clusters.tsv"
GROUPS = (
    "40S Ribosome",
    "60S Ribosome",
    "Actin cytoskeleton & Adhesion",
    "Cell cycle",
    "Chromosome alignment",
    "DNA damage",
    "DNA replication",
    "General transcription factors, mRNA export",
    "Protein degradation",
    "RNA Polymerase",
    "RNA processing",
    "Ribosome biogenesis",
    "Spindle bipolarity",
    "Spliceosome",
    "Translation initiation & tRNA ligases",
    "Tubulin",
    "Vesicle trafficking",
)
PART = 32
# Real spaces differ much between dimensions; whoever takes distances has to standardise them first.
_SCALE = 0.05


@dataclass(frozen=True)
class Parameters:
    """What can be set; strengths are in units of a gene's noise.

    Attributes
    ----------
    genes, complexes, complex_size
        Genes in all, complexes, and about how many genes each has. Complexes belong to functional groups.
    functional_share
        Share of genes that belong to one of the 17 groups.
    treatment_effect
        How far genes of a group or complex move together in the salient part; at 0 gene sets tell nothing.
    leak
        The same in the background part, as a share of treatment_effect.
    noise
        Strength of the noise.
    """

    genes: int = 600
    complexes: int = 80
    complex_size: int = 5
    functional_share: float = 0.6
    treatment_effect: float = 0.5
    leak: float = 0.9
    noise: float = 1.0


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated embedding as a mirror: ``<out_root>/<host>/<path>``, ``manifest.tsv`` and ``truth.tsv``.

    Parameters
    ----------
    parameters
        Values of :class:`Parameters` that differ from its defaults.
    out_root
        Folder to write to.
    seed
        Same seed and parameters, same bytes.

    Returns
    -------
    list of dict
        The manifest's records.

    Raises
    ------
    SpecError
        If a parameter is unknown or impossible.
    """
    p = _checked(parameters)
    rng = np.random.default_rng([seed, 0])
    genes = np.array([f"SIMG{i + 1:04d}" for i in range(p.genes)], dtype=object)
    functional = max(2 * len(GROUPS), round(p.functional_share * p.genes))
    group = np.where(np.arange(p.genes) < functional, np.arange(p.genes) % len(GROUPS), -1)
    complexes = _complexes(rng, genes, group, p)
    directions, own = unit_rows(rng, len(GROUPS), PART), unit_rows(rng, len(complexes), PART)
    truth = np.where((group >= 0)[:, None], directions[group], 0.0)
    for members, direction in zip(complexes.values(), own, strict=True):
        truth[np.isin(genes, members)] += direction
    embedding = _embedding(rng, genes, truth, p)
    out = RawFolder(out_root)
    out.write(EMBEDDING, parquet_bytes(embedding, index=True))
    functions = {gene: GROUPS[g] for gene, g in zip(genes, group, strict=True) if g >= 0}
    # The real list also has genes that the screen lost.
    functions |= {"SIMG-LOST1": GROUPS[0], "SIMG-LOST2": GROUPS[-1]}
    out.write(FUNCTIONS, json.dumps(functions).encode())
    lines = [f"{name}\t{' '.join(members)}\n" for name, members in complexes.items()]
    lines.append("Sim complex of lost genes\tSIMG-LOST1 SIMG-LOST2\n")
    out.write(COMPLEXES, "".join(lines).encode())
    out.write(PAIRS, csv_bytes(_pairs(complexes)))
    names = [GROUPS[g] if g >= 0 else "" for g in group]
    return out.finish(pd.DataFrame({"gene": genes, "group": names}))


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    for key, least in {"genes": 3 * len(GROUPS), "complexes": 1, "complex_size": 2}.items():
        if getattr(p, key) < least:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {least} or more")
    if p.functional_share > 1:
        raise SpecError(f"simulate: parameter functional_share is {p.functional_share}, expected 0 to 1")
    if p.complexes * 2 > p.genes:
        raise SpecError(
            f"simulate: parameter complexes is {p.complexes}, expected at most half of the {p.genes} genes"
        )
    return p


def _complexes(
    rng: np.random.Generator, genes: np.ndarray, group: np.ndarray, p: Parameters
) -> dict[str, list[str]]:
    complexes = {}
    for i in range(p.complexes):
        pool = genes[group == i % len(GROUPS)] if i % 4 else genes
        size = min(len(pool), max(2, int(rng.poisson(p.complex_size))))
        complexes[f"Sim complex {i + 1:03d}"] = sorted(rng.choice(pool, size, replace=False))
    return complexes


def _embedding(rng: np.random.Generator, genes: np.ndarray, truth: np.ndarray, p: Parameters) -> pd.DataFrame:
    n = len(genes)
    potency = rng.uniform(0.6, 1.4, (n, 1))
    hidden = rng.standard_normal((n, 4)) @ unit_rows(rng, 4, PART)
    salient = p.treatment_effect * potency * truth + p.noise * rng.standard_normal((n, PART))
    background = p.leak * p.treatment_effect * potency * truth + p.noise * (
        0.8 * hidden + rng.standard_normal((n, PART))
    )
    control = 0.1 * p.noise * rng.standard_normal((1, 2 * PART))
    spread = _SCALE * rng.lognormal(0.0, 0.4, 2 * PART)
    values = np.vstack([np.hstack([salient, background]), control]) * spread
    index = pd.Index([*genes, "nontargeting"], name="gene_symbol_0", dtype=object)
    frame = pd.DataFrame(values.astype(np.float32), index=index, columns=[str(i) for i in range(2 * PART)])
    frame["salient_mag"] = np.linalg.norm(values[:, :PART], axis=1).astype(np.float32)
    frame["background_mag"] = np.linalg.norm(values[:, PART:], axis=1).astype(np.float32)
    total = frame["salient_mag"] + frame["background_mag"]
    frame["background_contribution"] = frame["background_mag"] / total
    frame["mitotic_index"] = rng.lognormal(3.0, 0.6, n + 1)
    return frame.sort_index()


def _pairs(complexes: Mapping[str, list[str]]) -> pd.DataFrame:
    """Return the pairs of all complexes, both ways round, less a few: the real tables disagree a little too."""
    pairs = sorted({pair for members in complexes.values() for pair in combinations(members, 2)})
    pairs = pairs[len(pairs) // 200 + 1 :] or pairs
    rows = [pair for one, two in pairs for pair in ((one, two), (two, one))]
    return pd.DataFrame(rows, columns=["entity1", "entity2"])
