rule simulate:
    output:
        manifest=f"{DATA}/simulated/{SCALE}/{{dataset}}/manifest.tsv",
    log:
        log_of("simulate", "{dataset}"),
    benchmark:
        benchmark_of("simulate", "{dataset}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        spec=dataset_spec("simulator", "simulate"),
        code=lambda wildcards: code_digest(
            "morphobench.simulate.dataset",
            HOUSE.datasets[wildcards.dataset]["simulator"],
        ),
    message:
        job_message(
            "Simulating the files of {wildcards.dataset} as its provider serves them"
        )
    script:
        "../workflow/scripts/simulate.py"
