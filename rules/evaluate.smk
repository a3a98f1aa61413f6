rule neighbours:
    input:
        profiles=f"{RESULTS}/{EVALUATION}/{{correction}}/profiles.parquet",
    output:
        neighbours=f"{RESULTS}/{EVALUATION}/{{correction}}/neighbours.npz",
        health=f"{RESULTS}/{EVALUATION}/{{correction}}/health.json",
    log:
        log_of("neighbours", EVALUATION, "{correction}"),
    benchmark:
        benchmark_of("neighbours", EVALUATION, "{correction}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        needs=lambda wildcards: PLAN.neighbour_needs(*evaluated(wildcards)),
        code=code_digest("morphobench.metrics.neighbours", "morphobench.metrics.health"),
    message:
        job_message(
            "Finding neighbours: {wildcards.dataset}, {wildcards.method}, {wildcards.correction}"
        )
    script:
        "../workflow/scripts/neighbours.py"


rule evaluate:
    input:
        profiles=f"{RESULTS}/{EVALUATION}/{{correction}}/profiles.parquet",
        neighbours=rules.neighbours.output.neighbours,
        health=rules.neighbours.output.health,
        annotations=f"{RESULTS}/{{dataset}}/prepared/annotations.parquet",
    output:
        scores=f"{RESULTS}/{EVALUATION}/{{correction}}/scores.csv",
        draws=f"{RESULTS}/{EVALUATION}/{{correction}}/draws.json",
    log:
        log_of("evaluate", EVALUATION, "{correction}"),
    benchmark:
        benchmark_of("evaluate", EVALUATION, "{correction}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        metrics=lambda wildcards: PLAN.metrics_for(*evaluated(wildcards)),
        code=lambda wildcards: code_digest(
            "morphobench.metrics.evaluate",
            "morphobench.metrics.scores",
            *PLAN.metric_functions(*evaluated(wildcards)),
        ),
    message:
        job_message(
            "Scoring {wildcards.dataset}, {wildcards.method}, {wildcards.correction} (seed {wildcards.seed})"
        )
    script:
        "../workflow/scripts/evaluate.py"
