"""Folders, file names and plate maps of the phase-contrast drug screen, as the authors' code reads them.

The images are not public, so a user's own folder is the only real source:

    batch_{1..7}/{LINE}_CL{n}_P{n}/{LINE}_CL{n}_P{n}_{WELL}_1_{YYYYyMMmDDd_HHhMMm}.jpg     (.tif where still raw)
    metadata/{LINE}_CL{n}_P{n}.csv                                      with Well, Drug, Final_conc_uM

Which images there are no table tells. In a user's folder they are looked up; a simulated screen comes with
``listing.tsv`` (``path``, ``size``) at an address under ``.invalid``, which never is a real one (RFC 2606).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from morphobench.datasets.collection import need_columns, refuse_duplicates
from morphobench.errors import DataError, SpecError
from morphobench.fetch.requests import RawFile, Variant

BASE = "https://incucyte.invalid/data"
MAP_COLUMNS = ("Well", "Drug", "Final_conc_uM")
GROUPS = ("line", "clone", "plate", "well", "site", "time", "ending")
NOT_PUBLIC = (
    "the images of this drug screen are not public: set local: {incucyte: FOLDER} in config.yaml, "
    "where FOLDER has images batch_{1..7}/{LINE}_CL{n}_P{n}/{LINE}_CL{n}_P{n}_{WELL}_1_{YYYYyMMmDDd_HHhMMm}.jpg "
    "(or .tif) and plate maps metadata/{LINE}_CL{n}_P{n}.csv with columns Well, Drug, Final_conc_uM"
)
_TIME = "%Yy%mm%dd_%Hh%Mm"


def list_files(unit: str, files: Mapping[str, Path], options: Mapping[str, Any]) -> list[Variant]:
    """Return the files of one batch: its images and the plate maps of its plates.

    Parameters
    ----------
    unit
        Name of the batch's folder.
    files
        ``listing`` where the screen is simulated.
    options
        ``local_root``: the user's folder, which is then looked through; ``pattern`` and ``lines``, see
        :func:`morphobench.datasets.incucyte.read_unit`.

    Returns
    -------
    list of Variant
        One, images by name and then plate maps. Files whose names do not fit are among them, so that the reader
        can say so; names that begin with a dot are not.

    Raises
    ------
    SpecError
        If there is neither a user's folder nor a listing.
    DataError
        If the batch has no files.
    """
    if options.get("local_root"):
        where = str(options["local_root"])
        sizes = _walk(Path(where), unit)
    elif "listing" in files:
        where = str(files["listing"])
        sizes = _read_listing(Path(where))
    else:
        raise SpecError(NOT_PUBLIC)
    names = sorted(n for n in sizes if n.startswith(f"{unit}/") and not n.rpartition("/")[2].startswith("."))
    if not names:
        raise DataError(f"{where}: has no files in {unit}/; expected folders such as {unit}/ACHN_CL3_P1")
    pattern = compiled(options["pattern"])
    parsed = {name: parse_name(name, pattern) for name in names}
    wanted = options.get("lines")
    if wanted is not None:
        names = [n for n in names if not isinstance(parsed[n], ImageName) or parsed[n].line in wanted]
    # The first file decides whether there is anything, so it is one that a screen needs.
    names.sort(key=lambda name: not isinstance(parsed[name], ImageName))
    plates = sorted({p.folder for n in names if isinstance(p := parsed[n], ImageName)})
    names += [f"metadata/{plate}.csv" for plate in plates]
    return [Variant("images", tuple(RawFile(f"{BASE}/{quote(n)}", n, size=sizes.get(n)) for n in names))]


def _walk(root: Path, unit: str) -> dict[str, int | None]:
    found = {}
    for top in (root / unit, root / "metadata"):
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                found[path.relative_to(root).as_posix()] = path.stat().st_size if path.exists() else None
    return found


def _read_listing(path: Path) -> dict[str, int | None]:
    try:
        table = pd.read_csv(path, sep="\t", dtype={"path": str, "size": "Int64"}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable listing ({str(error).splitlines()[0]})") from error
    need_columns(path, table.columns, ("path", "size"))
    refuse_duplicates(path, table, ["path"], "file")
    return {name: int(size) for name, size in zip(table["path"], table["size"], strict=True)}


@dataclass(frozen=True)
class ImageName:
    """What the name of an image says.

    Attributes
    ----------
    name
        The path below the data folder.
    folder
        The plate, ``{LINE}_CL{n}_P{n}``.
    line, replicate, well, site, time, ending
        Its parts; ``replicate`` is the number after P, wells lack leading zeros, ``ending`` is in small letters.
    """

    name: str
    folder: str
    line: str
    replicate: int
    well: str
    site: str
    time: datetime
    ending: str

    @property
    def stamp(self) -> str:
        """The time as names have it."""
        return self.time.strftime(_TIME)


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of image names; SpecError unless it has all the named groups."""
    try:
        result = re.compile(pattern)
    except re.error as error:
        raise SpecError(f"images.options.pattern is no regular expression ({error})") from error
    for group in GROUPS:
        if group not in result.groupindex:
            raise SpecError(f"images.options.pattern has no named group {group!r}; it needs {', '.join(GROUPS)}")
    return result


def parse_name(name: str, pattern: re.Pattern[str]) -> ImageName | str:
    """Return the parts of an image's path, or why it is none of the screen's images."""
    parts = name.split("/")
    found = pattern.fullmatch(parts[-1])
    if found is None:
        return "the name is not {LINE}_CL{n}_P{n}_{WELL}_{site}_{time}.jpg or .tif"
    plate = f"{found['line']}_CL{found['clone']}_P{found['plate']}"
    if len(parts) != 3 or parts[1] != plate:
        return f"an image of plate {plate} lies in folder {'/'.join(parts[:-1])}"
    try:
        time = datetime.strptime(found["time"], _TIME)
    except ValueError:
        return f"{found['time']} is no time; expected such as 2019y09m27d_22h23m"
    replicate = int(found["plate"])
    return ImageName(
        name,
        plate,
        found["line"],
        replicate,
        plain_well(found["well"]),
        found["site"],
        time,
        found["ending"].lower(),
    )


def plain_well(well: str) -> str:
    """Return a well's name without leading zeros: A7 for A07."""
    return f"{well[0]}{well[1:].lstrip('0')}"


def well_key(well: str) -> tuple[str, int]:
    """Return a sort key that puts A10 after A9."""
    return well[0], int(well[1:])


def read_map(content: bytes, where: str, drugs: Iterable[str], controls: Iterable[str]) -> pd.DataFrame:
    """Read a plate map.

    Parameters
    ----------
    content
        The CSV file.
    where
        Its name, for errors.
    drugs, controls
        The names that column ``Drug`` may have.

    Returns
    -------
    DataFrame
        ``Drug`` (None where the well has none) and ``Final_conc_uM`` (0 for controls without one) by ``Well``.

    Raises
    ------
    DataError
        If a column is missing, a well occurs twice or is none of a 384-well plate, a drug is unknown or has no
        concentration.
    """
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not a readable plate map ({str(error).splitlines()[0]})") from error
    need_columns(Path(where), table.columns, MAP_COLUMNS)
    table = table[list(MAP_COLUMNS)].apply(lambda column: column.str.strip())
    bad = ~table["Well"].str.fullmatch(r"[A-P](0?[1-9]|1[0-9]|2[0-4])")
    _refuse(where, table, bad, "Well", "a well from A1 to P24")
    table["Well"] = table["Well"].map(plain_well)
    refuse_duplicates(Path(where), table, ["Well"], "well")
    controls = set(controls)
    table["Drug"] = table["Drug"].where(~table["Drug"].isin(["", "nan", "NaN", "NA"]), None)
    _refuse(where, table, table["Drug"].notna() & ~table["Drug"].isin({*drugs, *controls}), "Drug", "a known drug")
    dose = pd.to_numeric(table["Final_conc_uM"].replace({"nan": "", "NaN": "", "NA": ""}), errors="coerce")
    treated = table["Drug"].notna() & ~table["Drug"].isin(controls)
    _refuse(where, table, treated & ~(dose > 0), "Final_conc_uM", "a concentration above 0")
    table["Final_conc_uM"] = dose.fillna(0.0)
    return table.set_index("Well")


def _refuse(where: str, table: pd.DataFrame, bad: pd.Series, column: str, expected: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(
            f"{where}: {column} is {table[column].iloc[row]!r} in data row {row + 1}, expected {expected}"
        )
