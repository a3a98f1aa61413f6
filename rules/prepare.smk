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
    wildcard_constraints:
        dataset=PLAN.pattern("profile_datasets"),
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


rule prepare_model:
    input:
        manifest=rules.fetch.output.manifest,
    output:
        profiles=f"{RESULTS}/{{dataset}}/prepared/model_profiles.parquet",
        report=f"{RESULTS}/{{dataset}}/prepared/prepare_model.json",
    log:
        log_of("prepare_model", "{dataset}"),
    benchmark:
        benchmark_of("prepare_model", "{dataset}")
    wildcard_constraints:
        dataset=PLAN.pattern("network_datasets"),
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
            "preprocessing_model",
        ),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        code=lambda wildcards: code_digest(
            "morphobench.datasets.prepare", HOUSE.datasets[wildcards.dataset]["reader"]
        ),
    message:
        job_message("Preparing the profiles of {wildcards.dataset} for networks")
    script:
        "../workflow/scripts/prepare_model.py"


rule prepare_unit:
    input:
        files=rules.fetch.output.manifest,
        manifest=f"{RESULTS}/{{dataset}}/raw/units/{{unit}}.tsv",
    output:
        images=f"{RESULTS}/{{dataset}}/images/{{unit}}.npy",
        samples=f"{RESULTS}/{{dataset}}/images/{{unit}}.parquet",
        excluded=f"{RESULTS}/{{dataset}}/images/{{unit}}.excluded.csv",
        facts=f"{RESULTS}/{{dataset}}/images/{{unit}}.json",
    log:
        log_of("prepare_unit", "{dataset}", "{unit}"),
    benchmark:
        benchmark_of("prepare_unit", "{dataset}", "{unit}")
    wildcard_constraints:
        dataset=PLAN.pattern("image_datasets"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=image_spec("lister", "reader", "options", "channels"),
        raw=lambda wildcards: PLAN.raw_folder(wildcards.dataset),
        keep_raw=HOUSE.config["keep_raw"],
        code=lambda wildcards: code_digest(
            "morphobench.images.prepare",
            HOUSE.datasets[wildcards.dataset]["images"]["reader"],
        ),
    message:
        job_message("Storing the images of {wildcards.dataset}, {wildcards.unit}")
    script:
        "../workflow/scripts/prepare_unit.py"


rule prepare_images:
    input:
        facts=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/images/{unit}.json"
            for unit in PLAN.units(wildcards.dataset)
        ],
    output:
        samples=f"{RESULTS}/{{dataset}}/images/samples.parquet",
        statistics=f"{RESULTS}/{{dataset}}/images/statistics.parquet",
        folds=f"{RESULTS}/{{dataset}}/images/folds.parquet",
        excluded=f"{RESULTS}/{{dataset}}/images/excluded.csv",
        store=f"{RESULTS}/{{dataset}}/images/store.json",
    log:
        log_of("prepare_images", "{dataset}"),
    benchmark:
        benchmark_of("prepare_images", "{dataset}")
    wildcard_constraints:
        dataset=PLAN.pattern("image_datasets"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        units=lambda wildcards: PLAN.units(wildcards.dataset),
        spec=image_spec("channels", "pixel_size_um"),
        folds=lambda wildcards: HOUSE.datasets[wildcards.dataset]["folds"],
        code=code_digest("morphobench.images.finish"),
    message:
        job_message("Completing the image store of {wildcards.dataset}")
    script:
        "../workflow/scripts/prepare_images.py"


rule pixels:
    input:
        store=lambda wildcards: store_files(wildcards.dataset),
    output:
        profiles=f"{RESULTS}/{{dataset}}/prepared/profiles.parquet",
        annotations=f"{RESULTS}/{{dataset}}/prepared/annotations.parquet",
    log:
        log_of("pixels", "{dataset}"),
    benchmark:
        benchmark_of("pixels", "{dataset}")
    wildcard_constraints:
        dataset=PLAN.pattern("pixel_datasets"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=dataset_spec("id", "source"),
        code=code_digest("morphobench.images.pixels"),
    message:
        job_message("Measuring the pixels of {wildcards.dataset}")
    script:
        "../workflow/scripts/pixels.py"
