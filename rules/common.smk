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
    "folds": ("morphobench.report.figures_folds",),
    "claims": ("morphobench.report.claims_page", "morphobench.report.claims"),
    "screen": ("morphobench.report.figures_images", "morphobench.report.figures"),
}
EVALUATION = "{dataset}/{method}/seed{seed}/fold{fold}"
# A report shows what there is: no rule may then ask for a table or figure that is not made yet.
REPORTING = "--report-after-run" not in sys.argv and any(
    argument.split("=")[0] == "--report" for argument in sys.argv
)


wildcard_constraints:
    dataset=PLAN.pattern("datasets"),
    unit=PLAN.pattern("units"),
    method=PLAN.pattern("representations"),
    correction=PLAN.pattern("corrections"),
    table=PLAN.pattern("tables"),
    figures=PLAN.pattern("figures"),
    seed=r"\d+",
    fold=r"\d+",


def all_tables():
    """The csv of every table that the configuration asks for; for a report, of those that are made."""
    return [path for table in (*PLAN.tables, "claims") for path in table_file(table)]


def claims_input():
    """The scores behind all tables, each once."""
    cells = {cell: None for table in PLAN.tables for cell in PLAN.table_cells(table)}
    return scores_of(cells)


def all_figures():
    """Every figure of those tables; for a report, every one that is made."""
    return [
        path
        for group in PLAN.figures
        for name in PLAN.figure_names(group)
        for path in figure_file(name)
    ]


def table_file(table):
    """The csv of a table, as a list; for a report, empty unless the table is made."""
    path = Path(f"{RESULTS}/tables/{table}.csv")
    # The page is what goes into the report.
    made = path.is_file() and path.with_suffix(".html").is_file()
    return [str(path)] if made or not REPORTING else []


def figure_file(name):
    """The picture of a figure, as a list; for a report, empty unless it is drawn."""
    path = f"{RESULTS}/figures/{name}.png"
    return [path] if Path(path).is_file() or not REPORTING else []


def figure_output(name):
    """The picture of a figure as an output, marked for the report unless that has to do without it."""
    path = f"{RESULTS}/figures/{name}.png"
    if not figure_file(name):
        return path
    return report(
        path,
        caption="../workflow/report/figure.rst",
        category="Figures",
        labels={"figure": name, "scale": SCALE},
    )


def figure_inputs(group):
    """What a figure is drawn from: an image store, the profiles behind a table for embeddings, else the table."""
    if HOUSE.figures[group]["kind"] == "screen":
        return store_files(HOUSE.figures[group]["dataset"])
    table = HOUSE.figures[group]["table"]
    if HOUSE.figures[group]["kind"] == "folds":
        return scores_of(PLAN.table_cells(table))
    if HOUSE.figures[group]["kind"] == "embeddings":
        return [
            f"{RESULTS}/{cell.folder}/profiles.parquet"
            for cell in PLAN.figure_cells(group)
        ]
    return table_file(table)


def store_files(dataset):
    """The files that describe an image store; the pixels lie beside them, one file a unit."""
    names = (
        "samples.parquet",
        "statistics.parquet",
        "folds.parquet",
        "excluded.csv",
        "store.json",
    )
    return [f"{RESULTS}/{dataset}/images/{name}" for name in names]


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


def fetched_manifests():
    """The manifests of everything that was fetched at this scale so far."""
    folders = [Path(RESULTS, dataset, "raw") for dataset in HOUSE.datasets]
    return [str(path) for folder in folders for path in sorted(folder.rglob("*.tsv"))]


def kept(path):
    """A manifest of raw images; gone with the images where the configuration does not keep them."""
    return path if HOUSE.config["keep_raw"] else temp(path)


def dataset_spec(*keys):
    """A params function: the named parts of a dataset's resolved spec."""
    return lambda wildcards: {k: HOUSE.datasets[wildcards.dataset].get(k) for k in keys}


def image_spec(*keys):
    """A params function: the named parts of a dataset's images, and where the user's own copy lies."""
    return lambda wildcards: {
        "id": wildcards.dataset,
        "source": HOUSE.datasets[wildcards.dataset]["source"],
        "files": HOUSE.datasets[wildcards.dataset]["files"],
        "licence": HOUSE.datasets[wildcards.dataset]["licence"],
        "local": HOUSE.datasets[wildcards.dataset]["local"],
        "images": {k: HOUSE.datasets[wildcards.dataset]["images"][k] for k in keys},
    }


def method_spec(wildcards):
    """The spec of a representation or control, as it is on the data set."""
    return HOUSE.method_on(wildcards.method, wildcards.dataset)


def evaluated_wells(wildcards):
    """Which wells of the data set are scored."""
    return HOUSE.datasets[wildcards.dataset]["evaluated_wells"]


def correction_spec(wildcards):
    """The spec of a correction."""
    return HOUSE.methods[wildcards.correction]


def need(resource, wildcard):
    """A resources function: what a method's spec asks for; memory and time grow with each attempt."""

    def amount(wildcards, attempt):
        spec = HOUSE.method_on(wildcards[wildcard], wildcards.dataset)
        return spec["resources"][resource] * attempt

    return amount


def cores(wildcards):
    """How many cores a method's spec asks for."""
    return method_spec(wildcards)["resources"].get("threads", 1)


def gpus(wildcards):
    """How many GPUs a method's spec asks for."""
    return method_spec(wildcards)["resources"]["gpu"]


def evaluated(wildcards):
    """What an evaluation is of: data set, method, correction."""
    return wildcards.dataset, wildcards.method, wildcards.correction


def weights_file(wildcards):
    """The file of weights that a training starts with: the user's own, a fetched one, or none."""
    name = method_spec(wildcards)["weights"]
    if name is None:
        return []
    return HOUSE.config["weights"].get(name) or fetched_weights(name)


def fetched_weights(name):
    """Where the file of a weights spec lies once fetched."""
    address = HOUSE.weights[name]["files"][0]["url"].partition("://")[2]
    return f"{DATA}/raw/{address}"


def start_model(wildcards):
    """The model that a training starts from, or nothing."""
    start = method_spec(wildcards)["starts_from"]
    if start is None:
        return []
    return f"{RESULTS}/{wildcards.dataset}/{start}/seed{wildcards.seed}/fold{wildcards.fold}/model/model.json"


def fold_files(wildcards):
    """The folds of a data set of images; nothing where the profiles say which split they are of."""
    dataset = HOUSE.datasets[wildcards.dataset]
    if dataset["images"] and not dataset["reader"]:
        return f"{RESULTS}/{wildcards.dataset}/images/folds.parquet"
    return []


def scores_of(cells):
    """The scores files behind a list of evaluations."""
    return [f"{RESULTS}/{cell.folder}/scores.csv" for cell in cells]


def named(words):
    """The tables and the figure specs that the words of a command line name, or whose files they name."""
    targets = {Path(word).name.split(".")[0] for word in words}
    tables = [t for t in PLAN.tables if t in targets or "tables" in targets]
    figures = [
        g for g in PLAN.figures if targets & {"figures", g, *PLAN.figure_names(g)}
    ]
    return tables, figures


def requested(words):
    """The tables and the figure specs that the words of a command line ask for: without a name, all of them."""
    tables, figures = named(words)
    return (tables, figures) if tables or figures else (PLAN.tables, PLAN.figures)


def check_report():
    """Say what a report has to do without; exit if that is everything."""
    if Path(workflow.main_snakefile).resolve() != BASE.resolve() / "Snakefile":
        return  # the workflow that imports this one may have other things to report
    # Targets proper are known only after the rules are read.
    tables, figures = requested(sys.argv)
    made = {table: table_file(table) for table in tables}
    for group in figures:
        names = PLAN.figure_names(group)
        named = [name for name in names if name in sys.argv]
        made |= {name: figure_file(name) for name in named or names}
    missing = ", ".join(name for name, path in made.items() if not path)
    if not any(made.values()):
        sys.exit(
            f"morphobench: there is nothing to report at scale {SCALE}, not made yet: {missing}; "
            f"run the same command without --report first"
        )
    if missing:
        print(f"Not in the report, because not made yet: {missing}", file=sys.stderr)


def report_partial_results():
    """After a failure: make the tables and figures from what there is, and say how to go on."""
    targets = set(workflow.dag_settings.targets)
    # Whoever asked for one unit's files or for verify did not ask for tables.
    tables, figures = requested(()) if targets <= {"all"} else named(targets)
    plans = [PLAN.table_plan(table, RESULTS) for table in tables]
    plans += [PLAN.claims_plan(RESULTS)] if tables == PLAN.tables else []
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
