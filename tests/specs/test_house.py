"""Configuration and specs are validated before anything runs: one sentence with file, line and key."""

import pytest
import yaml

from morphobench.errors import SpecError
from morphobench.specs import load_house
from morphobench.specs.house import merged, resolve_dataset
from morphobench.specs.plan import Plan


def spoil(path, old, new):
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def sentence(house, config=None):
    with pytest.raises(SpecError) as error:
        load_house(house, config)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_shipped_specs_are_valid(root):
    shipped = load_house(root)
    assert set(shipped.tables) >= {"bbbc021_corrections", "funk22_published", "cellpaintr_table1"}
    assert set(shipped.datasets) >= {"bbbc021", "funk22_published", "cpg0016"}


@pytest.mark.parametrize("scale", ["demo", "full", "tiny"])
def test_every_scale_resolves(root, scale):
    config = {**yaml.safe_load((root / "config.yaml").read_text()), "scale": scale}
    for spec in load_house(root, config).datasets.values():
        assert spec["source"] in ("real", "simulated")
        assert "scales" not in spec


def test_misspelt_config_key(house):
    line = spoil(house / "config.yaml", "mirror:", "miror:")
    assert sentence(house) == f"{house}/config.yaml, line {line}: unknown key 'miror'; did you mean 'mirror'?"


def test_misspelt_config_key_on_the_command_line(house):
    config = {**yaml.safe_load((house / "config.yaml").read_text()), "sacle": "tiny"}
    text = sentence(house, config)
    assert "--config" in text
    assert "unknown key 'sacle'; did you mean 'scale'?" in text


def test_bad_values(house):
    config = yaml.safe_load((house / "config.yaml").read_text())
    assert "scale is 'dmo', expected one of demo, full, tiny; did you mean 'demo'?" in sentence(
        house, {**config, "scale": "dmo"}
    )
    assert "which is no folder here" in sentence(house, {**config, "mirror": "/no/such/folder"})
    assert "tables names no table: 'bbbc021_correction'; did you mean 'bbbc021_corrections'?" in sentence(
        house, {**config, "tables": ["bbbc021_correction"]}
    )
    assert "seeds" in sentence(house, {**config, "seeds": ["a"]})
    assert "keep_raw is 'no', expected true or false" in sentence(house, {**config, "keep_raw": "no"})


@pytest.mark.parametrize(("word", "meant"), [("false", False), ("True", True), (False, False)])
def test_words_of_yaml_on_the_command_line(house, word, meant):
    assert load_house(house, {"keep_raw": word}).config["keep_raw"] is meant


def test_misspelt_method_key(house):
    path = house / "specs" / "methods" / "combat.yaml"
    line = spoil(path, "deterministic:", "determinstic:")
    text = sentence(house)
    assert text.startswith(f"{path}, line {line}: unknown key 'determinstic'; did you mean 'deterministic'?")


def test_misspelt_hyper_parameter(house):
    path = house / "specs" / "methods" / "random.yaml"
    spec = yaml.safe_load(path.read_text())
    name = next(iter(spec["parameters"]))
    line = spoil(path, f"{name}:", f"{name}x:")
    text = sentence(house)
    assert f"{path}, line {line}" in text
    assert f"takes no parameter '{name}x'; did you mean '{name}'?" in text


def test_class_that_does_not_exist(house):
    path = house / "specs" / "methods" / "combat.yaml"
    line = spoil(path, ":ComBat", ":Combat")
    text = sentence(house)
    assert f"{path}, line {line}: class is" in text
    assert "defines no Combat; did you mean 'ComBat'?" in text


def test_unknown_metric_in_a_table(house):
    path = house / "specs" / "tables" / "bbbc021_corrections.yaml"
    line = spoil(path, "metric: graph_connectivity", "metric: graph_conectivity")
    text = sentence(house)
    assert f"{path}, line {line}" in text
    assert "metric names no metric: 'graph_conectivity'; did you mean 'graph_connectivity'?" in text


def test_row_with_an_unknown_method(house):
    path = house / "specs" / "tables" / "bbbc021_corrections.yaml"
    line = spoil(path, "method: cellprofiler", "method: cellprofilr")
    text = sentence(house)
    assert f"{path}, line {line}" in text
    assert "names no method: 'cellprofilr'; did you mean 'cellprofiler'?" in text


def test_row_without_a_method(house):
    path = house / "specs" / "tables" / "bbbc021_corrections.yaml"
    line = spoil(path, "method: cellprofiler, ", "")
    text = sentence(house)
    assert f"{path}, line {line}" in text
    assert "row 'Baseline' names no method" in text


def test_row_whose_correction_is_no_correction(house):
    path = house / "specs" / "tables" / "bbbc021_corrections.yaml"
    spoil(path, "correction: combat", "correction: random")
    assert "'random' is a control, expected a correction" in sentence(house)


def test_missing_published_file(house):
    (house / "specs" / "published" / "cellpaintr-table1.csv").unlink()
    text = sentence(house)
    assert "no file" in text
    assert "cellpaintr-table1.csv" in text


def test_id_that_is_not_the_file_name(house):
    path = house / "specs" / "metrics" / "grit.yaml"
    spoil(path, "id: grit", "id: grits")
    assert "id is 'grits', expected 'grit'" in sentence(house)


def test_method_that_cannot_take_the_dataset(house):
    path = house / "specs" / "tables" / "bbbc021_corrections.yaml"
    spoil(path, "method: cellprofiler", "method: mcvae_all")
    assert "cannot take dataset 'bbbc021'; it takes funk22_published" in sentence(house)


def test_unknown_preprocessing_step(house):
    path = house / "specs" / "datasets" / "cpg0016.yaml"
    line = spoil(path, "step: mad_normalise", "step: mad_normalize")
    text = sentence(house)
    assert f"{path}, line {line}" in text
    assert "did you mean 'mad_normalise'?" in text


def test_address_without_checksum_must_say_why(house):
    path = house / "specs" / "datasets" / "bbbc021.yaml"
    spec = yaml.safe_load(path.read_text())
    spoil(path, spec["files"][0]["sha256"], "null")
    # An empty checksum is only accepted beside a sentence that says what could not be checked.
    assert "unverified" in sentence(house) or "sha256" in sentence(house)


def test_merge_replaces_lists_and_merges_mappings():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(base, {"a": {"c": [3]}, "e": 2}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}


def test_real_data_only_where_a_mirror_is_named():
    spec = {"id": "x", "source": "real", "scales": {"demo": {"source": "real_if_mirror"}}}
    assert resolve_dataset(spec, {"scale": "demo", "mirror": None})["source"] == "simulated"
    assert resolve_dataset(spec, {"scale": "demo", "mirror": "folder"})["source"] == "real"


def test_deterministic_methods_run_for_one_seed_only(root):
    plan = Plan(load_house(root))
    cells = plan.table_cells("bbbc021_corrections")
    assert len(cells) == len(set(cells))
    seeds = {}
    for cell in cells:
        seeds.setdefault((cell.method, cell.correction), set()).add(cell.seed)
    assert seeds["cellprofiler", "none"] == {0}
    assert seeds["random", "none"] == {0, 1, 2}


def test_aggregates_bring_their_parts(root):
    """A table that names nothing but the overall score still runs what that is made of."""
    house = load_house(root)
    spec = house.tables["cellpaintr_table1"]
    block = {**spec["blocks"][0]}
    block["columns"] = [c for c in block["columns"] if c["metric"] == "aggregate_overall"]
    house.tables["cellpaintr_table1"] = {**spec, "blocks": [block]}
    ids = {m["id"] for m in Plan(house).metrics_for("cpg0016", "cellprofiler", "none")}
    assert ids >= {"aggregate_overall", "aggregate_bio", "aggregate_batch", "leiden_nmi", "graph_connectivity"}
    assert "grit" not in ids


def test_adding_a_method_is_one_file(house):
    """A further method needs its class and its YAML file; here the class exists already."""
    text = (house / "specs" / "methods" / "random.yaml").read_text()
    (house / "specs" / "methods" / "noise.yaml").write_text(text.replace("id: random", "id: noise"))
    assert "noise" in load_house(house).methods


def part(root, subset):
    config = yaml.safe_load((root / "config.yaml").read_text())
    return load_house(root, {**config, "scale": "full", "subset": subset}).datasets


def test_a_part_of_a_data_set(root):
    spec = part(root, {"rxrx1_huvec": {"units": ["HUVEC-02"], "wells": ["B02"]}})["rxrx1_huvec"]
    whole = part(root, {})["rxrx1_huvec"]
    assert spec["images"]["units"] == ["HUVEC-02"]
    assert spec["images"]["options"] == {**whole["images"]["options"], "wells": ["B02"]}


def test_numbers_of_a_part_on_the_command_line(root):
    """Snakemake hands over `--config 'subset={"funk22": {"max_tiles": 4}}'` with the text "4"."""
    options = part(
        root, {"funk22": {"max_tiles": "4", "tiles": ["640", "7"], "clip": "0.01", "genes": ["A1", "09"]}}
    )["funk22"]["images"]["options"]
    assert (options["max_tiles"], options["tiles"], options["clip"]) == (4, [640, 7], 0.01)
    assert options["genes"] == ["A1", "09"]
    select = part(root, {"cpg0016": {"scenario": "2", "plates": ["110000294901"]}})["cpg0016"]["plates"]["select"]
    assert (select["scenario"], select["plates"]) == (2, ["110000294901"])


def test_a_scenario_is_whole(root):
    """A scenario is sources and types of plates: those of the spec do not narrow it, those named beside it do."""
    config = {**yaml.safe_load((root / "config.yaml").read_text()), "scale": "full"}

    def selected(**subset):
        house = load_house(root, {**config, "subset": {"cpg0016": subset}})
        return house.datasets["cpg0016"]["plates"]["select"]

    assert len(selected(batches=["Batch1"])["sources"]) == 12
    found = selected(scenario=2)
    assert (found["scenario"], found["sources"], found["plate_types"]) == (2, None, None)
    assert found["block"]
    assert selected(scenario=3, plate_types=["TARGET2"])["plate_types"] == ["TARGET2"]


def test_the_model_branch_is_checked_like_the_other(house):
    path = house / "specs" / "datasets" / "cpg0016.yaml"
    line = spoil(
        path,
        'mad_normalise, scope: plate, "on": negcon, epsilon: 1.0e-6}\n  # Of',
        "mad_normalize, scope: plate}\n  # Of",
    )
    assert sentence(house).startswith(f"{path}, line {line}: step names no preprocessing step: 'mad_normalize'")


def test_a_users_own_copy(root, tmp_path):
    config = yaml.safe_load((root / "config.yaml").read_text())
    spec = load_house(root, {**config, "local": {"incucyte": str(tmp_path)}}).datasets["incucyte"]
    assert (spec["source"], spec["local"], spec["files"]) == ("real", str(tmp_path), [])
    assert spec["images"]["options"]["local_root"] == str(tmp_path)
    assert "local.incucyte is '/no/such', which is no folder" in sentence(
        root, {**config, "local": {"incucyte": "/no/such"}}
    )
    assert "set a mirror" in sentence(root, {**config, "local": {"cpg0016": str(tmp_path)}})


def test_a_part_of_the_cell_table_is_one_for_images_and_profiles(root):
    spec = part(root, {"funk22": {"units": ["20200202_6W-LaC024A_A1"], "parts": 3, "max_tiles": 2}})["funk22"]
    assert spec["plates"]["select"]["parts"] == spec["images"]["options"]["parts"] == 3
    assert "max_tiles" not in spec["plates"]["select"]
    assert spec["images"]["options"]["max_tiles"] == 2


def test_figure_panels_name_what_exists(house):
    file = house / "specs" / "figures" / "cdcl_fig2.yaml"
    line = spoil(file, "{correction: znorm, title: Z-norm}", "{correction: znrom, title: Z-norm}")
    assert sentence(house) == (
        f"{file}, line {line}: correction names no correction: 'znrom'; did you mean 'znorm'?"
    )


def test_a_montage_is_of_a_screen(house):
    file = house / "specs" / "figures" / "cdcl_fig2.yaml"
    file.write_text(file.read_text() + "montage: {treatments: 2, rows: 3}\n")
    assert "a montage is for figures of kind screen" in sentence(house) or "unknown key" in sentence(house)


def test_claims_are_read_before_anything_runs(house):
    file = house / "specs" / "claims.csv"
    spoil(file, ",<,", ",<<,")
    assert "claims.csv" in sentence(house)


def test_weights_of_ones_own(house, tmp_path):
    config = yaml.safe_load((house / "config.yaml").read_text())
    own = tmp_path / "own.pth"
    own.write_bytes(b"x")
    found = load_house(house, {**config, "weights": {"deit_small_patch16_224": str(own)}})
    assert found.config["weights"] == {"deit_small_patch16_224": str(own)}
    assert "names no file of weights" in sentence(
        house, {**config, "weights": {"deit_smal_patch16_224": str(own)}}
    )
    assert "which is no file here" in sentence(
        house, {**config, "weights": {"deit_small_patch16_224": "/no/file"}}
    )


def test_a_tables_folds_at_a_scale(root):
    config = yaml.safe_load((root / "config.yaml").read_text())
    found = {scale: load_house(root, {**config, "scale": scale}).tables for scale in ("full", "demo")}
    assert found["full"]["cdcl_table1"]["folds"] == 6
    assert found["demo"]["cdcl_table1"]["folds"] == 2
    assert found["demo"]["bbbc021_corrections"]["folds"] == 1


def test_a_method_on_a_data_set(root):
    config = yaml.safe_load((root / "config.yaml").read_text())
    house = load_house(root, {**config, "scale": "full"})
    where = {d: house.method_on("cdcl", d)["parameters"]["domain"]["value"] for d in ("rxrx1_huvec", "cpg0004")}
    assert where == {"rxrx1_huvec": "Metadata_Batch", "cpg0004": "Metadata_Plate"}


def test_an_evaluation_runs_the_metrics_that_its_cells_ask_for(root):
    plan = Plan(load_house(root))
    of = {c: {m["id"] for m in plan.metrics_for("rxrx1_huvec", "cdcl_half", c)} for c in ("none", "znorm")}
    assert of == {"none": set(), "znorm": {"knn_accuracy"}}
    assert {"knn_accuracy", "kbet_train"} <= {m["id"] for m in plan.metrics_for("rxrx1_huvec", "cdcl", "none")}
