import re
import shutil
import subprocess

import pandas as pd
import pytest
import yaml

from morphobench.report.cells import expand_cells, metric_ids
from morphobench.report.layout import format_value, scale_line, table_view
from morphobench.report.render import escape_latex, render_table, split_wide, write_table
from morphobench.report.table import build_table


@pytest.fixture
def made(toy):
    spec, scores, folder, metrics = toy
    table = build_table(spec, expand_cells(spec), scores, folder, metrics)
    return table, table_view(spec, table, folder, "demo", "simulated")


def test_best_follows_the_direction_and_leaves_controls_out(made):
    main = made[1].blocks[0]
    best = {
        (line.label, h.label) for line in main.lines for h, c in zip(main.heads, line.cells, strict=True) if c.best
    }
    assert best == {("B", "up"), ("B again", "up"), ("A", "down")}


def test_transposed_block_has_lines_of_settings(made):
    across = made[1].blocks[1]
    assert [h.label for h in across.heads] == ["A", "B"]
    assert [(x.sub, x.label) for x in across.lines][:2] == [("cut 80", "rec"), ("cut 80", "pre")]
    assert [c.best for c in across.lines[0].cells] == [True, False]
    assert [c.best for c in across.lines[1].cells] == [False, True]


def test_k_of_n(made):
    assert made[1].measured == "21 of 24 cells measured (3 out of memory)."


def test_markdown(made):
    text = render_table(made[1], "md")
    assert r"Toy &amp; 50% &lt;b&gt;\_table\_&lt;/b&gt;" in text
    assert "**0.70** <sub>± 0.14</sub><br><sub>paper 0.90</sub>" in text
    assert "*out of memory*" in text
    assert "do not compare with published numbers" in text
    assert "without a method here yet: C." in text
    assert r"a\|b" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    bars = [{len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} for table in tables]
    assert bars == [{5}, {4}, {3}]


def test_html(made):
    text = render_table(made[1], "html")
    assert "<h1>Toy &amp; 50% &lt;b&gt;_table_&lt;/b&gt; {x}</h1>" in text
    assert 'title="out of memory: needs &#34;9&#34; &lt;GB&gt; &amp; more"' in text
    assert "<b>0.70</b><small>± 0.14</small><small>paper 0.90</small>" in text
    assert '<tbody class="controls">' in text
    assert 'colspan="2" class="first group">s</th>' in text
    assert "http" not in text.replace("http-equiv", "")


def test_latex_structure(made):
    text = render_table(made[1], "tex")
    assert r"Toy \& 50\% \textless{}b\textgreater{}\_table\_" in text
    assert r"\textbf{0.70}" in text
    assert r"\cmidrule(lr){2-3}" in text
    for name in ("tabular", "table", "document"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(made, tmp_path):
    (tmp_path / "t.tex").write_text(render_table(made[1], "tex"))
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_escape_latex_every_special_character():
    assert escape_latex("a_b & 5% #1 $x {y} ~ ^ \\") == (
        r"a\_b \& 5\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape_latex("-0.5, 80-99") == "$-$0.5, 80-99"


def test_numbers():
    assert format_value(0.4, 2) == "0.40"
    assert format_value(0.0012, 2) == "0.00"
    assert format_value(-0.0, 2) == "0.00"
    assert format_value(float("nan"), 2) == ""
    assert "do not compare" in scale_line("demo", "simulated")
    assert scale_line("full", "real") == "Scale full, real data."


def test_split_wide_loses_no_column(made):
    main = made[1].blocks[0]
    for width in (1, 2, 3):
        parts = split_wide(main, width)
        assert [h for p in parts for h in p.heads] == main.heads
        assert max(len(p.heads) for p in parts) <= width


def test_write_table_and_read_back(made, tmp_path):
    table, view = made
    paths = write_table(table, view, tmp_path / "out")
    assert [p.name for p in paths] == ["toy.csv", "toy.status.csv", "toy.md", "toy.html", "toy.tex"]
    again = pd.read_csv(paths[0], keep_default_na=False)
    assert len(again) == 24
    assert set(again["status"]) == {"ok", "out_of_memory"}


@pytest.mark.parametrize("name", ["cellpaintr_table1", "funk22_published", "bbbc021_corrections"])
def test_house_tables_render_with_nothing_measured(root, name):
    spec = yaml.safe_load((root / f"specs/tables/{name}.yaml").read_text())
    published = root / "specs/published"
    metrics = {m: {"direction": "higher", "unit": "score"} for m in metric_ids(spec)}
    table = build_table(spec, expand_cells(spec), {}, published, metrics)
    view = table_view(spec, table, published, "tiny", "simulated")
    assert view.measured.startswith(f"0 of {len(table.cells)} cells measured")
    for kind in ("md", "html", "tex"):
        assert "not run" in render_table(view, kind)
    if name == "cellpaintr_table1":
        assert "paper 0.40" in render_table(view, "html")
