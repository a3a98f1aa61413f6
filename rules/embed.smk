rule embed:
    input:
        profiles=f"{RESULTS}/{{dataset}}/prepared/profiles.parquet",
        annotations=f"{RESULTS}/{{dataset}}/prepared/annotations.parquet",
        folds=fold_files,
    output:
        profiles=f"{RESULTS}/{EVALUATION}/embedding.parquet",
    log:
        log_of("embed", EVALUATION),
    benchmark:
        benchmark_of("embed", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("cpu_representations"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
    params:
        spec=method_spec,
        wells=evaluated_wells,
        code=lambda wildcards: code_digest(
            "morphobench.representations.apply",
            "morphobench.datasets.evaluated",
            method_spec(wildcards)["class"],
        ),
    message:
        job_message(
            "Embedding {wildcards.dataset} with {wildcards.method} (seed {wildcards.seed})"
        )
    script:
        "../workflow/scripts/embed.py"


use rule embed as embed_gpu with:
    log:
        log_of("embed_gpu", EVALUATION),
    benchmark:
        benchmark_of("embed_gpu", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("gpu_representations"),
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
        gpu=gpus,
    message:
        job_message(
            "Embedding {wildcards.dataset} with {wildcards.method} on a GPU (seed {wildcards.seed})",
            gpu=True,
        )
