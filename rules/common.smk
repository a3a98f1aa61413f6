"""The only Python of the workflow: read and check the specs, then say which files each rule needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

# Where this workflow lies, also when another one imports it as a module.
BASE = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(BASE / "src"))

from morphobench.errors import SpecError
from morphobench.specs import House, code_digest, load_house
from morphobench.specs.plan import Plan

try:
    HOUSE = load_house(BASE, config, workflow.overwrite_configfiles)
    PLAN = Plan(HOUSE)
except SpecError as error:
    sys.exit(f"morphobench: {error}")

SCALE = HOUSE.config["scale"]
DATA = HOUSE.config["data"]
RESULTS = f"{HOUSE.config['results']}/{SCALE}"
# What renders what: editing one kind of picture redraws that kind only.
RENDERERS = {
    "table": (
        "morphobench.report.table",
        "morphobench.report.layout",
        "morphobench.report.render",
    ),
    "embeddings": ("morphobench.report.figures_embeddings",),
    "precision_recall": ("morphobench.report.figures_curves",),
    "heatmap": ("morphobench.report.figures_overview",),
}
EVALUATION = "{dataset}/{method}/seed{seed}/fold{fold}"


wildcard_constraints:
    dataset=PLAN.pattern("datasets"),
    method=PLAN.pattern("representations"),
    correction=PLAN.pattern("corrections"),
    table=PLAN.pattern("tables"),
    figures=PLAN.pattern("figures"),
    seed=r"\d+",
    fold=r"\d+",


def all_tables():
    """The csv of every table that the configuration asks for."""
    return [f"{RESULTS}/tables/{table}.csv" for table in PLAN.tables]


def all_figures():
    """Every figure of those tables."""
    return [path for group in PLAN.figures for path in figure_files(group)]


def figure_files(group):
    """The pictures that one figure spec draws."""
    return [f"{RESULTS}/figures/{name}.png" for name in PLAN.figure_names(group)]


def figure_inputs(group):
    """What a figure is drawn from: the profiles behind a table for embeddings, else the table itself."""
    table = HOUSE.figures[group]["table"]
    if HOUSE.figures[group]["kind"] == "embeddings":
        return [
            f"{RESULTS}/{cell.folder}/profiles.parquet"
            for cell in PLAN.figure_cells(group)
        ]
    return [f"{RESULTS}/tables/{table}.csv"]


def log_of(stage, *parts):
    """Where a stage logs: one folder per rule below the results."""
    return str(Path(RESULTS, "logs", stage, *parts)) + ".log"


def benchmark_of(stage, *parts):
    """Where the time and memory of a stage are recorded."""
    return str(Path(RESULTS, "benchmarks", stage, *parts)) + ".tsv"


def job_message(text, gpu=False):
    """A rule's message: what it does and what it asks for, with the partition where a profile names one."""
    needs = "{threads} core, {resources.mem_mb} MB, {resources.runtime} min"
    if gpu:
        needs += ", {resources.gpu} GPU"
    if "slurm_partition" in (workflow.resource_settings.default_resources or {}):
        needs += ", partition {resources.slurm_partition}"
    return f"{text} ({needs})"


def simulated_manifest(wildcards):
    """The simulator's manifest where a dataset is simulated at this scale, nothing where it is real."""
    if HOUSE.datasets[wildcards.dataset]["source"] == "real":
        return []
    return f"{DATA}/simulated/{SCALE}/{wildcards.dataset}/manifest.tsv"


def dataset_spec(*keys):
    """A params function: the named parts of a dataset's resolved spec."""
    return lambda wildcards: {k: HOUSE.datasets[wildcards.dataset].get(k) for k in keys}


def method_spec(wildcards):
    """The spec of a representation or control."""
    return HOUSE.methods[wildcards.method]


def correction_spec(wildcards):
    """The spec of a correction."""
    return HOUSE.methods[wildcards.correction]


def need(resource, wildcard):
    """A resources function: what a method's spec asks for; memory and time grow with each attempt."""

    def amount(wildcards, attempt):
        return HOUSE.methods[wildcards[wildcard]]["resources"][resource] * attempt

    return amount


def scores_of(cells):
    """The scores files behind a list of evaluations."""
    return [f"{RESULTS}/{cell.folder}/scores.csv" for cell in cells]


def requested():
    """The tables and the figure specs that the command line asks for, by name or by file."""
    targets = {
        Path(target).name.split(".")[0] for target in workflow.dag_settings.targets
    }
    tables = [t for t in PLAN.tables if t in targets or "tables" in targets]
    figures = [
        g for g in PLAN.figures if targets & {"figures", g, *PLAN.figure_names(g)}
    ]
    return (tables, figures) if tables or figures else (PLAN.tables, PLAN.figures)


def report_partial_results():
    """After a failure: make the tables and figures from what there is, and say how to go on."""
    tables, figures = requested()
    plans = [PLAN.table_plan(table, RESULTS) for table in tables]
    plans += [PLAN.figure_plan(group, RESULTS) for group in figures]
    command = [
        sys.executable,
        "-m",
        "morphobench.report.plans",
        str(BASE / "specs" / "published"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(BASE / "src")}
    subprocess.run(
        command, input=json.dumps(plans), text=True, env=environment, check=False
    )
