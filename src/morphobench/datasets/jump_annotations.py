"""Mechanisms of action of JUMP compounds, from the JUMP-MOA plate, and the choices of wells that rest on them.

CellPainTR (section 4 and C.2) trains its second and third stage on controls and compounds of known mechanism.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from morphobench.datasets.collection import need_columns
from morphobench.errors import DataError, SpecError

WELLS = ("all", "controls", "curated")
_COLUMNS = ("InChIKey", "pert_iname", "moa")
# The connectivity block of an InChIKey.
_SKELETON = 14


def read_moa(path: Path) -> pd.DataFrame:
    """Read JUMP-MOA's table of compounds.

    Parameters
    ----------
    path
        Tab-separated, with ``InChIKey``, ``pert_iname``, ``moa``; ``NA`` stands for none (DMSO has no mechanism,
        the de-identified compounds have no key).

    Returns
    -------
    DataFrame
        The three columns of the compounds that have a mechanism; None for a missing key.

    Raises
    ------
    DataError
        If the file is not readable, or a key or a name has two mechanisms.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable table ({str(error).splitlines()[0]}); expected tabs") from error
    need_columns(path, table.columns, _COLUMNS)
    table = table[list(_COLUMNS)].apply(lambda column: column.where(~column.isin(["NA", ""]), None))
    table = table[table["moa"].notna()].reset_index(drop=True)
    for column in ("InChIKey", "pert_iname"):
        known = table[table[column].notna()].drop_duplicates([column, "moa"])
        twice = known.duplicated(column)
        if twice.any():
            name = known.loc[twice, column].iloc[0]
            raise DataError(f"{path}: {column} {name} has two mechanisms of action; expected one")
    return table


def moa_of(jcp: pd.Series, keys: pd.Series, names: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Return the mechanism of action of each well, None where it is not known.

    Controls are looked up by the name that JUMP gives their id; a control's InChIKey may differ between tables.
    Other compounds go by their InChIKey, and failing that by its connectivity block, where that has one mechanism
    only: the tables come from two versions of the same standardisation.

    Parameters
    ----------
    jcp, keys, names
        JCP id, InChIKey (or missing) and control name (or missing) of each well, with one index.
    table
        See :func:`read_moa`.
    """
    by_name = table.drop_duplicates("pert_iname").set_index("pert_iname")["moa"]
    keyed = table[table["InChIKey"].notna()]
    by_key = keyed.drop_duplicates("InChIKey").set_index("InChIKey")["moa"]
    blocks = keyed.assign(block=keyed["InChIKey"].str[:_SKELETON]).groupby("block")["moa"]
    by_block = blocks.first()[blocks.nunique() == 1]
    wells = pd.DataFrame({"jcp": jcp, "key": keys, "name": names})
    # There are many wells of few compounds.
    compounds = wells.drop_duplicates("jcp").set_index("jcp")
    key = compounds["key"].astype("string")
    found = compounds["name"].map(by_name).astype(object)
    for mapped in (key.map(by_key), key.str[:_SKELETON].map(by_block)):
        found = found.where(found.notna(), mapped.astype(object))
    result = wells["jcp"].map(found).astype(object)
    return result.where(result.notna(), None)


def chosen_wells(wells: pd.DataFrame, which: str) -> pd.Series:
    """Return which wells a named choice keeps.

    Parameters
    ----------
    wells
        The joined wells, with ``Metadata_Control`` and, for ``curated``, ``Metadata_MoA``.
    which
        ``all``; ``controls``: negative and positive controls; ``curated``: these and compounds of known mechanism.

    Raises
    ------
    SpecError
        If there is no such choice, or the mechanisms are not among the dataset's files.
    """
    if which not in WELLS:
        raise SpecError(f"reader_options.wells is {which!r}, expected one of {', '.join(WELLS)}")
    if which == "all":
        return pd.Series(True, index=wells.index)
    control = wells["Metadata_Control"].isin(["negcon", "poscon"])
    if which == "controls":
        return control
    if "Metadata_MoA" not in wells:
        raise SpecError("reader_options.wells is 'curated', which needs file jump_moa among the dataset's files")
    return control | wells["Metadata_MoA"].notna()
