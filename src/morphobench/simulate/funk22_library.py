"""The guides of a simulated pooled screen, and what they do to cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from morphobench.datasets.funk22_table import CONTROL
from morphobench.simulate.cells import phenotype_names
from morphobench.simulate.funk22 import GROUPS
from morphobench.simulate.phenotypes import unit_rows

if TYPE_CHECKING:
    from morphobench.simulate.funk22_screen import Parameters

# What the authors' pipeline calls the channels: GFP is tubulin, A594 phosphorylated H2AX, AF750 phalloidin.
ROLES = ("DNA", "Tubulin", "Damage", "Actin")


@dataclass(frozen=True)
class Library:
    """The genes and guides of the screen; gene 0 and its guides are the control.

    Attributes
    ----------
    genes
        One row a gene: ``gene, complex, group, potency``; empty text where there is none.
    effects
        (genes, P) phenotype.
    cycle
        (genes,) shift of the log odds of a later phase.
    guides
        One row a guide: ``guide, gene`` (its row), ``efficacy``.
    """

    genes: pd.DataFrame
    effects: np.ndarray
    cycle: np.ndarray
    guides: pd.DataFrame


def draw_library(rng: np.random.Generator, p: Parameters) -> Library:
    """Draw genes with complexes, groups and effects, and the guides against them."""
    complexes = round(p.complexed * p.genes) // p.complex_size
    number = np.full(p.genes, -1)
    number[: complexes * p.complex_size] = np.arange(complexes * p.complex_size) // p.complex_size
    groups = max(1, min(len(GROUPS), complexes // 2))
    group = np.where(number >= 0, number % groups, -1)
    width = len(phenotype_names(ROLES))
    of_group, of_complex = unit_rows(rng, groups, width), unit_rows(rng, max(1, complexes), width)
    own = unit_rows(rng, p.genes, width)
    potency = rng.uniform(0.7, 1.4, p.genes)
    shared = 0.6 * of_group[group] + 0.75 * of_complex[number]
    effects = np.where((number >= 0)[:, None], shared + 0.3 * own, own) * potency[:, None] * p.strength
    # Density is the well's, not the cell's.
    effects[:, phenotype_names(ROLES).index("cells")] = 0
    sign = np.where(np.arange(groups) % 4 < 2, 1.0, -1.0) * (np.arange(groups) % 2 == 0)
    cycle = np.where(number >= 0, sign[group], 0.0) * potency * p.strength * p.cycle
    genes = pd.DataFrame(
        {
            "gene": [CONTROL, *(f"SIMG{i + 1:04d}" for i in range(p.genes))],
            "complex": ["", *(f"Sim complex {c + 1:03d}" if c >= 0 else "" for c in number)],
            "group": ["", *(GROUPS[g] if g >= 0 else "" for g in group)],
            "potency": [0.0, *potency.round(6)],
        }
    )
    of_gene = np.repeat(np.arange(p.genes + 1), [p.control_guides, *[p.guides] * p.genes])
    letters = rng.choice(list("ACGT"), (len(of_gene), 20))
    guides = pd.DataFrame(
        {
            "guide": ["".join(row) for row in letters],
            "gene": of_gene,
            "efficacy": np.clip(rng.normal(0.95, 0.2, len(of_gene)), 0.1, 1.3),
        }
    )
    return Library(genes, np.vstack([np.zeros(width), effects]), np.concatenate([[0.0], cycle]), guides)
