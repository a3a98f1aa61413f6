rule correct:
    input:
        profiles=f"{RESULTS}/{EVALUATION}/embedding.parquet",
    output:
        profiles=f"{RESULTS}/{EVALUATION}/{{correction}}/profiles.parquet",
    log:
        log_of("correct", EVALUATION, "{correction}"),
    benchmark:
        benchmark_of("correct", EVALUATION, "{correction}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=need("mem_mb", "correction"),
        runtime=need("runtime", "correction"),
    params:
        spec=correction_spec,
        code=lambda wildcards: code_digest(
            "morphobench.corrections.apply", correction_spec(wildcards)["class"]
        ),
    message:
        job_message(
            "Correcting {wildcards.method} of {wildcards.dataset} with {wildcards.correction}"
        )
    script:
        "../workflow/scripts/correct.py"
