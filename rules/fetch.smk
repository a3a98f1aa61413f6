localrules:
    fetch,


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
        spec=dataset_spec("id", "source", "files", "plates", "licence"),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        code=lambda wildcards: code_digest(
            "morphobench.fetch.dataset", *PLAN.selectors(wildcards.dataset)
        ),
    message:
        "Fetching the raw files of {wildcards.dataset}"
    script:
        "../workflow/scripts/fetch.py"
