"""Specs are checked against each other, the source and the published names: one sentence with file and line."""

import pytest

from morphobench.specs import load_house

from .test_house import sentence, spoil

BBBC021 = "specs/datasets/bbbc021.yaml"
CELLPAINTR = "specs/tables/cellpaintr_table1.yaml"
CORRECTIONS = "specs/tables/bbbc021_corrections.yaml"
FUNK22 = "specs/tables/funk22_published.yaml"
COMBAT = "{row: Combat, method: cellprofiler, correction: combat}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            ", threshold: 0.9",
            ", treshold: 0.9",
            "step select_uncorrelated takes no key 'treshold'; did you mean 'threshold'?",
        ),
        (
            "test_replicates:",
            "test_replicatess:",
            "morphobench.datasets.bbbc021:read takes no key 'test_replicatess'; did you mean 'test_replicates'?",
        ),
        (
            "weeks: 4,",
            "weaks: 4,",
            "morphobench.simulate.bbbc021:simulate takes no key 'weaks'; did you mean 'weeks'?",
        ),
    ],
)
def test_misspelt_key_of_a_step_a_reader_and_a_simulator(house, old, new, says):
    line = spoil(house / BBBC021, old, new)
    assert sentence(house) == f"{house / BBBC021}, line {line}: {says}"


def test_keys_of_an_overlay_for_one_scale_are_checked_too(house):
    path = house / BBBC021
    line = spoil(path, "  demo:\n", "  demo:\n    reader_options: {test_replicats: [3]}\n") + 1
    text = sentence(house)
    assert text.startswith(f"{path}, line {line}: ")
    assert "'test_replicats'; did you mean 'test_replicates'?" in text


def test_the_same_method_and_correction_in_two_rows_of_a_block(house):
    path = house / CORRECTIONS
    line = spoil(path, COMBAT, f"{COMBAT}\n      - {COMBAT.replace('row: Combat', 'row: Another')}") + 1
    assert sentence(house) == (
        f"{path}, line {line}: row 'Another' is the same method and correction as row 'Combat'"
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "row: Combat,",
            "row: Combatt,",
            "row 'Combatt' is not among the published names; did you mean 'Combat'?",
        ),
        (
            "column: Leiden NMI,",
            "column: Leiden NMII,",
            "column 'Leiden NMII' is not among the published names; did you mean 'Leiden NMI'?",
        ),
    ],
)
def test_names_that_nearly_are_published_ones(house, old, new, says):
    line = spoil(house / CELLPAINTR, old, new)
    assert sentence(house) == f"{house / CELLPAINTR}, line {line}: {says}"


def test_names_unlike_the_published_ones_are_rows_of_their_own(house):
    spoil(house / CELLPAINTR, "row: TVN,", "row: Typical variation,")
    rows = load_house(house).tables["cellpaintr_table1"]["blocks"][0]["rows"]
    assert "Typical variation" in [row["row"] for row in rows]


def test_published_row_that_does_not_exist(house):
    line = spoil(house / CELLPAINTR, "row: Combat,", "row: My own, published_row: Combatt,")
    assert sentence(house) == (
        f"{house / CELLPAINTR}, line {line}: no published row 'Combatt' in cellpaintr-table1.csv; "
        f"did you mean 'Combat'?"
    )


def test_row_without_the_at_that_a_column_needs(house):
    path = house / FUNK22
    spoil(path, ', at: "Tubulin"', "")
    line = path.read_text().splitlines().index("blocks:") + 1
    assert sentence(house) == (
        f"{path}, line {line}: table funk22_published: row 'Tubulin' has no key 'at', but column "
        f"'recall background minus salient' needs it"
    )


def test_two_cells_of_one_name(house):
    path = house / CORRECTIONS
    spoil(path, "column: grit,", "column: k-BET,")
    text = sentence(house)
    assert text.startswith(f"{path}, line ")
    assert "two cells have row 'Baseline', setting 'further', column 'k-BET'; expected one" in text


KNN = "{setting: further, column: k-NN accuracy, metric: knn_accuracy}"
BASELINE = "{row: Baseline, method: cellprofiler, correction: none}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (KNN, KNN[:-1] + ", correction: znrm}", "correction names no correction: 'znrm'; did you mean 'znorm'?"),
        (KNN, KNN[:-1] + ", correction: random}", "'random' is a control, expected a correction"),
        (
            BASELINE,
            "{row: Baseline, method: cellprofiler, methods: {furthr: random}}",
            "no column has setting 'furthr'; did you mean 'further'?",
        ),
        (
            BASELINE,
            "{row: Baseline, method: cellprofiler, methods: {further: randm}}",
            "further names no method: 'randm'; did you mean 'random'?",
        ),
        (
            BASELINE,
            "{row: Baseline, method: cellprofiler, methods: {further: mcvae_all}}",
            "method 'mcvae_all' cannot take dataset 'bbbc021'; it takes funk22_published",
        ),
        (
            BASELINE,
            "{row: Baseline, method: cellprofiler, methods: {further: combat}}",
            "method 'combat' is a correction, expected a representation or control",
        ),
        (
            BASELINE,
            "{row: Baseline, difference: [cellprofiler, random], methods: {further: random}}",
            "row 'Baseline' has 'difference' and 'methods'; expected one",
        ),
    ],
)
def test_methods_of_settings_and_corrections_of_columns(house, old, new, says):
    line = spoil(house / CORRECTIONS, old, new)
    assert sentence(house) == f"{house / CORRECTIONS}, line {line}: {says}"


def test_a_row_of_other_methods_in_one_setting_is_a_row_of_its_own(house):
    path = house / CORRECTIONS
    other = "{row: Another, method: cellprofiler, correction: combat, methods: {further: random}}"
    spoil(path, COMBAT, f"{COMBAT}\n      - {other}")
    assert [r["row"] for r in load_house(house).tables["bbbc021_corrections"]["blocks"][0]["rows"]][2] == "Another"
    # The same methods, spelt otherwise.
    settings = ["batch correction", "biological", "aggregate", "mechanism", "further", "selection"]
    same = ", ".join(f"{s}: cellprofiler" for s in settings)
    spoil(
        path,
        "method: cellprofiler, correction: combat, methods: {further: random}",
        f"correction: combat, methods: {{{same}}}",
    )
    assert "row 'Another' is the same method and correction as row 'Combat'" in sentence(house)


def test_a_row_that_lacks_a_method_for_a_setting(house):
    spoil(house / CORRECTIONS, BASELINE, "{row: Baseline, methods: {further: cellprofiler}}")
    assert "row 'Baseline' names no method for setting 'batch correction'" in sentence(house)


def test_folds_of_a_data_set_that_has_none(house):
    line = spoil(house / CORRECTIONS, "digits: 2\n", "digits: 2\nscales: {tiny: {folds: 2}}\n") + 1
    assert sentence(house) == (
        f"{house / CORRECTIONS}, line {line}: folds is 2, but data set 'bbbc021' has no folds; expected 1"
    )


def test_a_metric_whose_unit_does_not_fit_the_published_one(house):
    spoil(house / CELLPAINTR, "metric: graph_connectivity", "metric: knn_accuracy")
    text = sentence(house)
    assert text.endswith("column 'Graph Conn.' is published in score, but metric 'knn_accuracy' is in fraction")
    assert text.startswith(f"{house / CELLPAINTR}, line ")
