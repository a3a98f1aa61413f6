"""Benchmark of representations of cell images and profiles; the library behind the workflow.

Nothing here knows of Snakemake. Importing the package or :mod:`morphobench.specs` stays light (no numpy,
pandas or torch), because the workflow imports them whenever it is parsed.
"""

__version__ = "0.1.0"
