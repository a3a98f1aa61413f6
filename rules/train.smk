for name, spec in HOUSE.weights.items():

    rule:
        name:
            f"fetch_weights_{name}"
        output:
            weights=fetched_weights(name),
        log:
            log_of("fetch_weights", name),
        benchmark:
            benchmark_of("fetch_weights", name)
        localrule: True
        conda:
            "../envs/morphobench.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=120,
        params:
            spec={k: spec[k] for k in ("id", "files", "licence")},
            raw=lambda wildcards: f"{DATA}/raw",
            code=code_digest("morphobench.fetch.dataset"),
        message:
            f"Fetching the weights {name}"
        script:
            "../workflow/scripts/fetch_weights.py"


rule train:
    input:
        store=lambda wildcards: store_files(wildcards.dataset),
        weights=weights_file,
        start=start_model,
    output:
        model=f"{RESULTS}/{EVALUATION}/model/model.json",
        encoder=f"{RESULTS}/{EVALUATION}/model/encoder.safetensors",
        normalisation=f"{RESULTS}/{EVALUATION}/model/normalisation.parquet",
        profiles=f"{RESULTS}/{EVALUATION}/embedding.parquet",
    log:
        log_of("train", EVALUATION),
    benchmark:
        benchmark_of("train", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("cpu_image_methods"),
    conda:
        "../envs/morphobench.yaml"
    threads: cores
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
    params:
        spec=method_spec,
        # Undeclared: Snakemake wipes what it knows of before each attempt, and these must outlive one.
        checkpoints=f"{RESULTS}/checkpoints/{EVALUATION}",
        code=lambda wildcards: code_digest(method_spec(wildcards)["class"]),
    message:
        job_message(
            "Training {wildcards.method} on {wildcards.dataset}, and embedding it (seed {wildcards.seed}, fold {wildcards.fold})"
        )
    script:
        "../workflow/scripts/train.py"


use rule train as train_gpu with:
    log:
        log_of("train_gpu", EVALUATION),
    benchmark:
        benchmark_of("train_gpu", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("gpu_image_methods"),
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
        gpu=gpus,
    message:
        job_message(
            "Training {wildcards.method} on {wildcards.dataset} on a GPU, and embedding it (seed {wildcards.seed}, fold {wildcards.fold})",
            gpu=True,
        )


rule train_network:
    input:
        profiles=f"{RESULTS}/{{dataset}}/prepared/model_profiles.parquet",
        start=start_model,
    output:
        model=f"{RESULTS}/{EVALUATION}/model/model.json",
        encoder=f"{RESULTS}/{EVALUATION}/model/encoder.safetensors",
        profiles=f"{RESULTS}/{EVALUATION}/embedding.parquet",
    log:
        log_of("train_network", EVALUATION),
    benchmark:
        benchmark_of("train_network", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("cpu_networks"),
    conda:
        "../envs/morphobench.yaml"
    threads: cores
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
    params:
        spec=method_spec,
        wells=evaluated_wells,
        # Undeclared, as for images.
        checkpoints=f"{RESULTS}/checkpoints/{EVALUATION}",
        code=lambda wildcards: code_digest(method_spec(wildcards)["class"]),
    message:
        job_message(
            "Training {wildcards.method} on the profiles of {wildcards.dataset}, and embedding them (seed {wildcards.seed})"
        )
    script:
        "../workflow/scripts/train_network.py"


use rule train_network as train_network_gpu with:
    log:
        log_of("train_network_gpu", EVALUATION),
    benchmark:
        benchmark_of("train_network_gpu", EVALUATION)
    wildcard_constraints:
        method=PLAN.pattern("gpu_networks"),
    resources:
        mem_mb=need("mem_mb", "method"),
        runtime=need("runtime", "method"),
        gpu=gpus,
    message:
        job_message(
            "Training {wildcards.method} on the profiles of {wildcards.dataset} on a GPU, and embedding them (seed {wildcards.seed})",
            gpu=True,
        )
