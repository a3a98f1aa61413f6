"""Check that what manifests list is there, byte for byte: ``python -m morphobench.fetch.verify MANIFEST...``."""

from __future__ import annotations

import argparse
import hashlib
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError, MorphobenchError
from morphobench.fetch.checksums import digests_of
from morphobench.fetch.manifest import read_any_manifest

NOT_HAD = frozenset({"missing", "damaged"})


def verify(manifests: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Read again every file that manifests list.

    Parameters
    ----------
    manifests
        Manifests of datasets or units. Relative paths in them are relative to the working folder, or to the
        manifest as a simulator writes them.

    Returns
    -------
    list of dict
        One row a damage: ``manifest, path, member, reason``. Files that a manifest itself calls missing or damaged
        are none.

    Raises
    ------
    DataError
        If a manifest cannot be read.
    """
    return [row for manifest in manifests for row in _verify_one(Path(manifest))[1]]


def _verify_one(manifest: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    counts = {"right": 0, "unhashed": 0, "not had": 0}
    damage: list[dict[str, Any]] = []
    members: dict[str, list[dict[str, Any]]] = {}

    def note(record: Mapping[str, Any], reason: str | None) -> None:
        if reason is None:
            counts["right"] += 1
            counts["unhashed"] += record["sha256"] is None
        else:
            row = {"manifest": str(manifest), "path": record["path"], "member": record.get("member")}
            damage.append({**row, "reason": reason})

    for record in read_any_manifest(manifest):
        if record["status"] in NOT_HAD:
            counts["not had"] += 1
        elif record.get("member"):
            members.setdefault(record["path"], []).append(record)
        else:
            note(record, _file_damage(_placed(record["path"], manifest), record))
    for path, records in members.items():
        for record, reason in _member_damage(_placed(path, manifest), records):
            note(record, reason)
    return counts, damage


def _placed(path: str, manifest: Path) -> Path:
    beside = manifest.parent / path
    return beside if not Path(path).is_absolute() and not Path(path).exists() and beside.exists() else Path(path)


def _file_damage(path: Path, record: Mapping[str, Any]) -> str | None:
    try:
        size = path.stat().st_size
        if record["size"] not in (None, size):
            return f"expected {record['size']} bytes, found {size}"
        if record["sha256"] is None:
            return None
        found = digests_of(path)["sha256"]
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == record["sha256"] else f"expected sha256 {record['sha256']}, found {found}"


def _member_damage(path: Path, records: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str | None]]:
    if not path.is_file():
        return [(record, "is gone") for record in records]
    try:
        with zipfile.ZipFile(path) as archive:
            return [(record, _one_member_damage(archive, record)) for record in records]
    except (zipfile.BadZipFile, OSError) as error:
        return [(record, f"cannot be read ({error})") for record in records]


def _one_member_damage(archive: zipfile.ZipFile, record: Mapping[str, Any]) -> str | None:
    try:
        content = archive.read(record["member"])
    except KeyError:
        return "is not in the zip"
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        return f"cannot be read ({error})"
    if record["size"] not in (None, len(content)):
        return f"expected {record['size']} bytes, found {len(content)}"
    found = hashlib.sha256(content).hexdigest()
    return None if record["sha256"] in (None, found) else f"expected sha256 {record['sha256']}, found {found}"


def check_manifests(manifests: Iterable[str | Path]) -> None:
    """Print one line a problem and a summary.

    Raises
    ------
    FetchError
        If there is any problem: how many there are.
    """
    total, problems = {"right": 0, "unhashed": 0, "not had": 0}, 0
    for manifest in map(Path, manifests):
        try:
            counts, damage = _verify_one(manifest)
        except MorphobenchError as error:
            print(error)
            problems += 1
            continue
        total = {key: total[key] + counts[key] for key in total}
        problems += len(damage)
        for row in damage:
            member = f", member {row['member']}" if row["member"] else ""
            print(f"{row['path']}{member}: {row['reason']} [{row['manifest']}]")
    print(
        f"{total['right']} files are right ({total['unhashed']} of them checked by size alone), "
        f"{problems} problems, {total['not had']} listed as never had"
    )
    if problems:
        raise FetchError(f"{problems} raw files are not what their manifests say")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the manifests named on the command line; return 1 if there is any problem."""
    parser = argparse.ArgumentParser(prog="python -m morphobench.fetch.verify", description=__doc__)
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST", type=Path)
    try:
        check_manifests(parser.parse_args(arguments).manifests)
    except FetchError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
