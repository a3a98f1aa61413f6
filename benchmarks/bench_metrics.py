"""Seconds and peak memory of our metrics beside copairs and scikit-learn, each in a process of its own.

Run ``python benchmarks/bench_metrics.py``; it prints a Markdown table. Imports are not timed; peak memory is of
the whole process, so the first row shows what an idle process with our imports takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd

DIMS, LABELS, PLATE = 64, 400, 384


def data(n: int):
    """Return features, labels and plates of ``n`` wells; a tenth of the wells are controls (label 0)."""
    rng = np.random.default_rng(0)
    codes = np.where(np.arange(n) % 10 == 0, 0, rng.integers(1, LABELS, n))
    features = rng.normal(size=(n, DIMS)) + 0.5 * rng.normal(size=(LABELS, DIMS))[codes]
    return features.astype(np.float32), codes, np.arange(n) // PLATE


def idle(n):
    import morphobench.metrics.average_precision  # noqa: F401 - its memory is the point

    return lambda features, codes, plates: 0.0


def neighbours_ours(n):
    from morphobench.metrics.neighbours import nearest

    return lambda features, codes, plates: float(nearest(features, 20).distances.mean())


def neighbours_sklearn(n):
    from sklearn.neighbors import NearestNeighbors

    def call(features, codes, plates):
        return float(NearestNeighbors(n_neighbors=20).fit(features).kneighbors()[0].mean())

    return call


def silhouette_ours(n):
    from morphobench.metrics.silhouette import silhouette_samples

    return lambda features, codes, plates: float(silhouette_samples(features, codes).mean())


def silhouette_sklearn(n):
    from sklearn.metrics import silhouette_score

    return lambda features, codes, plates: float(silhouette_score(features, codes))


def map_control_ours(n):
    from morphobench.metrics.average_precision import replicate_average_precision

    def call(features, codes, plates):
        scores = replicate_average_precision(features, codes, plates, codes > 0, codes == 0)
        return float(np.nanmean(scores))

    return call


def map_nonrep_ours(n):
    from morphobench.metrics.average_precision import replicate_average_precision

    def call(features, codes, plates):
        return float(np.nanmean(replicate_average_precision(features, codes, plates, codes > 0, codes > 0)))

    return call


def map_all_ours(n):
    from morphobench.metrics.average_precision import replicate_average_precision

    def call(features, codes, plates):
        rows = codes > 0
        return float(np.nanmean(replicate_average_precision(features, codes, np.zeros_like(plates), rows, rows)))

    return call


def _copairs(kind):
    from copairs.map import average_precision

    def call(features, codes, plates):
        control = codes == 0
        unit = np.where(control, -np.arange(len(codes)), codes)
        frame = pd.DataFrame({"unit": unit, "plate": plates, "control": control})
        if kind != "control":
            frame, features = frame[~control].reset_index(drop=True), features[~control]
        rule = {
            "control": (["plate"], ["control"]),
            "nonrep": (["plate"], ["unit"]),
            "all": ([], ["unit"]),
        }[kind]
        result = average_precision(frame, features, ["unit"], [], *rule, progress_bar=False)
        return float(result.loc[~result["control"], "average_precision"].mean())

    return call


def map_control_copairs(n):
    return _copairs("control")


def map_nonrep_copairs(n):
    return _copairs("nonrep")


def map_all_copairs(n):
    return _copairs("all")


CASES = (
    "idle",
    "neighbours_ours",
    "neighbours_sklearn",
    "silhouette_ours",
    "silhouette_sklearn",
    "map_control_ours",
    "map_control_copairs",
    "map_nonrep_ours",
    "map_nonrep_copairs",
    "map_all_ours",
    "map_all_copairs",
)


def measure(case: str, n: int) -> dict:
    """Run one case in this process."""
    import resource

    arguments = data(n)
    call = globals()[case](n)
    began = time.perf_counter()
    value = call(*arguments)
    seconds = time.perf_counter() - began
    return {
        "value": value,
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--case", choices=CASES, help="run one case in this process and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.sizes[0])))
        return
    print("| case | N | seconds | peak MB | value |\n| --- | --- | --- | --- | --- |")
    for n in options.sizes:
        for case in CASES:
            command = [sys.executable, __file__, "--case", case, "--sizes", str(n)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                lines = done.stderr.strip().splitlines()
                print(f"| {case} | {n} | failed | | {lines[-1] if lines else done.returncode} |")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"| {case} | {n} | {found['seconds']:.2f} | {found['peak_mb']:.0f} | {found['value']:.6f} |")


if __name__ == "__main__":
    main()
