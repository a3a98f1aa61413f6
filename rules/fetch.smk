localrules:
    fetch,
    fetch_unit,
    verify,


rule fetch:
    input:
        simulated=simulated_manifest,
    output:
        manifest=f"{RESULTS}/{{dataset}}/raw/manifest.tsv",
    log:
        log_of("fetch", "{dataset}"),
    benchmark:
        benchmark_of("fetch", "{dataset}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        spec=dataset_spec("id", "source", "files", "plates", "licence", "local"),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        code=lambda wildcards: code_digest(
            "morphobench.fetch.dataset", *PLAN.selectors(wildcards.dataset)
        ),
    message:
        "Fetching the raw files of {wildcards.dataset}"
    script:
        "../workflow/scripts/fetch.py"


rule fetch_unit:
    input:
        manifest=rules.fetch.output.manifest,
        simulated=simulated_manifest,
    output:
        manifest=kept(f"{RESULTS}/{{dataset}}/raw/units/{{unit}}.tsv"),
    log:
        log_of("fetch_unit", "{dataset}", "{unit}"),
    benchmark:
        benchmark_of("fetch_unit", "{dataset}", "{unit}")
    wildcard_constraints:
        dataset=PLAN.pattern("image_datasets"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=1440,
        downloads=1,
    params:
        spec=image_spec("lister", "options"),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        code=lambda wildcards: code_digest(
            "morphobench.fetch.screens",
            HOUSE.datasets[wildcards.dataset]["images"]["lister"],
        ),
    message:
        "Fetching the images of {wildcards.dataset}, {wildcards.unit}"
    script:
        "../workflow/scripts/fetch_unit.py"


rule verify:
    log:
        log_of("verify"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        manifests=fetched_manifests(),
    message:
        "Checking every raw file that was fetched against size and checksum"
    script:
        "../workflow/scripts/verify.py"
