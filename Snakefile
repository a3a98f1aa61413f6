"""What can be asked for. The rules are in rules/, one file per stage, in the order in which data flow."""

from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.current_basedir}/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/simulate.smk"
include: "rules/fetch.smk"
include: "rules/prepare.smk"
include: "rules/train.smk"
include: "rules/embed.smk"
include: "rules/correct.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        all_tables(),
        all_figures(),


if REPORTING:
    check_report()


onerror:
    report_partial_results()
