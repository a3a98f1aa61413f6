rule prepare:
    input:
        manifest=rules.fetch.output.manifest,
    output:
        profiles=f"{RESULTS}/{{dataset}}/prepared/profiles.parquet",
        annotations=f"{RESULTS}/{{dataset}}/prepared/annotations.parquet",
        excluded=f"{RESULTS}/{{dataset}}/prepared/excluded.csv",
        report=f"{RESULTS}/{{dataset}}/prepared/prepare.json",
    log:
        log_of("prepare", "{dataset}"),
    benchmark:
        benchmark_of("prepare", "{dataset}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=dataset_spec(
            "id",
            "source",
            "reader",
            "files",
            "plates",
            "reader_options",
            "preprocessing",
        ),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        code=lambda wildcards: code_digest(
            "morphobench.datasets.prepare", HOUSE.datasets[wildcards.dataset]["reader"]
        ),
    message:
        job_message("Preparing the profiles of {wildcards.dataset}")
    script:
        "../workflow/scripts/prepare.py"
