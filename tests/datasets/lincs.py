"""Hand-made tables of a small LINCS pilot: five plates of platemap M1, one of M2, one barcode without images."""

from __future__ import annotations

from pathlib import Path

PLATES = ("SQ00000007", "SQ00000002", "SQ00000003", "SQ00000004", "SQ00000005")
OTHER, PHANTOM = "SQ00000006", "SQ00000009"
BARCODES = (
    "Assay_Plate_Barcode,Plate_Map_Name,Batch_Number,Batch_Date\n"
    + "".join(f"{p},M1,1,2016-03-22\n" for p in PLATES)
    + f"{OTHER},M2,2,2016-04-05\n{PHANTOM},M2,2,2016-04-05\n"
)
FOLDERS = "".join(f"{p}__2016-05-23T20_44_31-Measurement1\n" for p in (*PLATES, OTHER))
HEAD = "plate_map_name\twell_position\tbroad_sample\tmg_per_ml\tmmoles_per_liter\tsolvent\n"
MAPS = {
    "M1": HEAD
    + "M1\tA01\t\t\t\tDMSO\n"
    + "M1\tB02\tBRD-A00000001-001-01-1\t1\t9.99999999999999999\tDMSO\n"
    + "M1\tB03\tBRD-A00000001-001-01-1\t1\t3.33333333333076923\tDMSO\n"
    + "M1\tP24\tBRD-A00000002-001-01-1\t1\t6.79369056369968\tDMSO\n"
    + "M1\tA02\t\t\t\tDMSO\n",
    "M2": HEAD
    + "M2\tA01\t\t\t\tDMSO\n"
    + "M2\tB02\tBRD-A00000003-001-07-7\t1\t10.0\tDMSO\n"
    + "M2\tB03\tBRD-A00000004-001-01-1\t1\t0.0411522633769230769\tDMSO\n",
}
MOA = (
    "broad_sample\tbroad_id\tpert_iname\tInChIKey14\tmoa\n"
    "BRD-A00000001-001-01-1\tBRD-A00000001\tone\tAAA\tkinase inhibitor\n"
    "BRD-A00000002-001-01-1\tBRD-A00000002\ttwo\tBBB\t\n"
    # Another batch of the sample on the platemap.
    "BRD-A00000003-001-01-9\tBRD-A00000003\tthree\tCCC\tantagonist\n"
)
LIST = (
    "broad_sample\tmoa\nBRD-A00000001-001-01-1\tkinase inhibitor\nBRD-A00000003-001-07-7\tantagonist\nDMSO\tDMSO\n"
)


def write(folder: Path, **changed: str) -> dict[str, Path]:
    """Write the tables, some of them changed, and return them by their names in the spec."""
    texts = {"barcode_platemap": BARCODES, "plates": FOLDERS, "moa": MOA, "treatments": LIST}
    texts |= {f"platemap_{name}": text for name, text in MAPS.items()}
    files = {}
    for name, text in {**texts, **changed}.items():
        files[name] = folder / f"{name}.txt"
        files[name].write_text(text, encoding="utf-8")
    return files
