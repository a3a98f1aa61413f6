localrules:
    targets,
    render_table,
    judge_claims,


rule render_table:
    input:
        scores=lambda wildcards: scores_of(PLAN.table_cells(wildcards.table)),
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        status=f"{RESULTS}/tables/{{table}}.status.csv",
        markdown=f"{RESULTS}/tables/{{table}}.md",
        html=report(
            f"{RESULTS}/tables/{{table}}.html",
            caption="../workflow/report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": SCALE},
        ),
        tex=f"{RESULTS}/tables/{{table}}.tex",
    log:
        log_of("render_table", "{table}"),
    benchmark:
        benchmark_of("render_table", "{table}")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        plan=lambda wildcards: PLAN.table_plan(wildcards.table, RESULTS),
        code=code_digest(*RENDERERS["table"], data="report/templates/*.j2"),
    message:
        "Rendering table {wildcards.table}"
    script:
        "../workflow/scripts/render.py"


rule judge_claims:
    input:
        scores=claims_input(),
    output:
        csv=f"{RESULTS}/tables/claims.csv",
        markdown=f"{RESULTS}/tables/claims.md",
        html=report(
            f"{RESULTS}/tables/claims.html",
            caption="../workflow/report/table.rst",
            category="Tables",
            labels={"table": "claims", "scale": SCALE},
        ),
        tex=f"{RESULTS}/tables/claims.tex",
    log:
        log_of("judge_claims"),
    benchmark:
        benchmark_of("judge_claims")
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        plan=PLAN.claims_plan(RESULTS),
        code=code_digest(*RENDERERS["claims"], data="report/templates/claims.*.j2"),
    message:
        "Judging the published claims"
    script:
        "../workflow/scripts/render.py"


for group in PLAN.figures:

    rule:
        name:
            f"draw_{group}"
        input:
            files=figure_inputs(group),
        output:
            [figure_output(name) for name in PLAN.figure_names(group)],
        log:
            log_of("draw", group),
        benchmark:
            benchmark_of("draw", group)
        conda:
            "../envs/morphobench.yaml"
        threads: 1
        resources:
            mem_mb=lambda wildcards, attempt: 8000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
        params:
            plan=PLAN.figure_plan(group, RESULTS),
            code=code_digest(*RENDERERS[HOUSE.figures[group]["kind"]]),
        message:
            job_message(f"Drawing {group}")
        script:
            "../workflow/scripts/render.py"


# Every table and every figure is a target under its own name.
for table in PLAN.tables:

    rule:
        name:
            table
        input:
            table_file(table),


for group in PLAN.figures:
    for figure in PLAN.figure_names(group):

        rule:
            name:
                figure
            input:
                figure_file(figure),


rule claims:
    input:
        table_file("claims"),


rule tables:
    input:
        all_tables(),


rule figures:
    input:
        all_figures(),


rule targets:
    log:
        log_of("targets"),
    conda:
        "../envs/morphobench.yaml"
    threads: 1
    resources:
        mem_mb=100,
        runtime=1,
    params:
        text=PLAN.target_list(),
    message:
        "What can be asked for:"
    shell:
        "printf '%s\n' {params.text:q} | tee {log}"
