"""What can be asked without running anything."""

import re

import pytest
import yaml

from .conftest import TINY


def rules_planned(output: str) -> dict[str, int]:
    """The job counts of a dry run."""
    table = output[output.index("Job stats:") :].split("\n\n")[0]
    counts = re.findall(r"^(\w+)\s+(\d+)$", table, re.M)
    return {rule: int(n) for rule, n in counts if rule != "total"}


def test_dry_run_of_everything_and_of_one_table(checkout):
    everything = checkout.snakemake("-n").stdout
    one = checkout.snakemake("-n", "bbbc021_corrections").stdout
    assert "Preparing the profiles of cpg0016" in everything
    assert "Preparing the profiles of bbbc021" in one
    assert "cpg0016" not in one
    assert "funk22" not in one
    assert rules_planned(one)["render_table"] == 1


@pytest.mark.slow
def test_full_scale_needs_nothing_simulated(checkout):
    planned = rules_planned(checkout.snakemake("-n", "--config", "scale=full").stdout)
    assert "simulate" not in planned
    assert planned["fetch"] == 7
    assert planned["fetch_unit"] == planned["prepare_unit"] == 24 + 136 + 36 + 7


@pytest.mark.slow
def test_a_mirror_replaces_the_simulated_stand_ins(checkout, tmp_path):
    (tmp_path / "mirror").mkdir()
    arguments = ("-n", "--config", f"mirror={tmp_path / 'mirror'}", "--", "bbbc021_corrections")
    planned = rules_planned(checkout.snakemake(*arguments).stdout)
    assert "simulate" not in planned


@pytest.mark.slow
def test_targets_lists_tables_and_figures(checkout):
    text = checkout.snakemake("targets").stdout
    for name in ("bbbc021_corrections", "funk22_published", "cellpaintr_table1", "mcvae_fig2b", "cellpaintr_fig7"):
        assert name in text


@pytest.mark.slow
def test_rulegraph(checkout):
    assert "digraph" in checkout.snakemake("--rulegraph").stdout


def test_bad_configuration_is_one_sentence(checkout):
    result = checkout.snakemake("-n", "--config", "miror=x", check=False)
    assert result.returncode == 1
    assert "unknown key 'miror'; did you mean 'mirror'?" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_bad_spec_is_one_sentence(checkout):
    checkout.edit("specs/tables/bbbc021_corrections.yaml", "metric: grit", "metric: girt")
    result = checkout.snakemake("-n", check=False)
    assert result.returncode == 1
    assert "metric names no metric: 'girt'; did you mean 'grit'?" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.slow
def test_slurm_profile_sends_gpu_jobs_to_their_partition(checkout):
    spec = {"id": "gpu_noise", "extends": "random", "label": "Noise", "summary": "Noise, on a GPU."}
    spec |= {"resources": {"mem_mb": 1000, "runtime": 10, "gpu": 1}}
    (checkout.path / "specs/methods/gpu_noise.yaml").write_text(yaml.safe_dump(spec))
    checkout.edit("specs/tables/bbbc021_corrections.yaml", "method: random,", "method: gpu_noise,")
    text = checkout.snakemake("--profile", "slurm", "-n", "bbbc021_corrections").stdout
    jobs = re.findall(r"^Job \d+: (.*)$", text, re.M)
    gpu = [job for job in jobs if "gpu_noise on a GPU" in job]
    assert len(gpu) == 3
    assert all("1 GPU, partition gpu)" in job for job in gpu)
    others = [job for job in jobs if "partition" in job and job not in gpu]
    assert len(others) > 20
    assert all("partition cpu)" in job and "GPU" not in job for job in others)


@pytest.mark.slow
def test_importable_as_a_module(checkout, tmp_path):
    user = tmp_path / "user"
    user.mkdir()
    (user / "Snakefile").write_text(
        "configfile: 'config.yaml'\n\n"
        f"module morphobench:\n    snakefile: '{checkout.path}/Snakefile'\n    config: config\n\n"
        "use rule * from morphobench as mb_*\n\n"
        "rule mine:\n    default_target: True\n    input: rules.mb_tables.input\n"
    )
    (user / "config.yaml").write_text((checkout.path / "config.yaml").read_text())
    text = checkout.snakemake("-n", "--cores", "1", "--directory", str(user), "-s", str(user / "Snakefile"), *TINY)
    assert "mb_evaluate" in text.stdout
