"""Method specs: what they take from each other, from data sets and scales, and what is wrong with them."""

import pytest

from morphobench.errors import SpecError
from morphobench.specs.lines import Document
from morphobench.specs.methods import NEEDED, at_scale, inherited, overlaid, resolve_methods

GIVEN = {"value": 1, "source": "paper", "note": "table 7"}


def documents(**methods):
    base = {
        "kind": "representation",
        "class": "morphobench.representations.controls:RandomEmbedding",
        "parameters": {},
        "deterministic": False,
        "reference": {"paper": "x"},
        "resources": {"mem_mb": 10, "runtime": 5, "gpu": 1},
        "input": "images",
        "datasets": ["screen"],
    }
    specs = {
        name: {"id": name, "label": name, "summary": name, **({} if "extends" in spec else base), **spec}
        for name, spec in methods.items()
    }
    datasets = {
        "screen": {"images": {"units": []}},
        "table": {"images": None, "preprocessing_model": [{"step": "impute"}]},
        "second": {"images": {"units": []}},
    }
    kinds = {"methods": specs, "datasets": datasets, "weights": {"imagenet": {}}}
    return {
        kind: {name: Document(f"{name}.yaml", value) for name, value in values.items()}
        for kind, values in kinds.items()
    }


def test_a_parameter_is_replaced_with_its_source_and_note():
    found = overlaid(
        {"parameters": {"a": GIVEN, "b": GIVEN}}, {"parameters": {"a": {"value": 2, "source": "guess"}}}
    )
    assert found["parameters"] == {"a": {"value": 2, "source": "guess"}, "b": GIVEN}


def test_a_child_takes_everything_but_the_names():
    found = inherited(
        documents(
            parent={"parameters": {"dims": GIVEN}, "weights": "imagenet"},
            child={"extends": "parent", "resources": {"mem_mb": 99}},
            grandchild={"extends": "child", "weights": None},
        )["methods"]
    )
    assert found["grandchild"]["label"] == "grandchild"
    assert found["grandchild"]["parameters"] == {"dims": GIVEN}
    assert found["grandchild"]["resources"] == {"mem_mb": 99, "runtime": 5, "gpu": 1}
    assert found["grandchild"]["weights"] is None
    assert found["child"]["weights"] == "imagenet"
    assert all(key in found["child"] for key in NEEDED)


def test_data_set_then_scale_then_data_set_at_the_scale():
    def value(v):
        return {"parameters": {"dims": {"value": v, "source": "guess"}}}

    spec = {
        **documents(m={**value(1)})["methods"]["m"].value,
        "on": {"screen": value(2), "second": value(3)},
        "scales": {"demo": {**value(4), "resources": {"gpu": 0}, "on": {"second": value(5)}}, "tiny": {}},
    }
    full, demo = at_scale(spec, "full"), at_scale(spec, "demo")
    assert full["parameters"]["dims"]["value"] == 1
    assert [full["on"][d]["parameters"]["dims"]["value"] for d in ("screen", "second")] == [2, 3]
    assert demo["parameters"]["dims"]["value"] == 4
    assert [demo["on"][d]["parameters"]["dims"]["value"] for d in ("screen", "second")] == [4, 5]
    assert demo["on"]["second"]["resources"] == {"mem_mb": 10, "runtime": 5, "gpu": 0}
    assert "scales" not in demo
    assert "scales" not in demo["on"]["second"]


def test_a_childs_scale_lies_over_its_parents():
    def value(v):
        return {"parameters": {"dims": {"value": v, "source": "guess"}}}

    found = resolve_methods(
        documents(
            parent={**value(1), "scales": {"demo": {**value(2), "weights": None}}},
            child={"extends": "parent", **value(3)},
            other={"extends": "parent", "scales": {"demo": value(4)}},
        ),
        "demo",
    )
    # What holds at a scale holds there for all: a child that differs there has to say so.
    assert found["child"]["parameters"]["dims"]["value"] == 2
    assert found["other"]["parameters"]["dims"]["value"] == 4


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({"a": {"extends": "b"}, "b": {"extends": "a"}}, "extends a; expected no circle"),
        ({"a": {"extends": "bb"}, "b": {}}, "names no method: 'bb'"),
        ({"a": {"class": None} | {"extends": "b"}, "b": {"datasets": "all"}}, "needs a list of data sets"),
        ({"a": {"datasets": ["table"]}}, "data set 'table' has no images"),
        ({"a": {"datasets": ["screeen"]}}, "names no data set: 'screeen'"),
        ({"a": {"weights": "imagnet"}}, "names no file of weights: 'imagnet'; did you mean 'imagenet'"),
        ({"a": {"parameters": {"dim": GIVEN}}}, "takes no parameter 'dim'; did you mean 'dims'"),
        ({"a": {"scales": {"demo": {"parameters": {"dim": GIVEN}}}}}, "takes no parameter 'dim'"),
        ({"a": {"on": {"second": {"parameters": {"dim": GIVEN}}}}}, "takes no parameter 'dim'"),
        ({"a": {"on": {"secnd": {}}}}, "names no data set: 'secnd'"),
        ({"a": {"scales": {"dmeo": {}}}}, "names no scale: 'dmeo'"),
        ({"a": {"starts_from": "b"}, "b": {"starts_from": "a"}}, "expected no circle"),
        ({"a": {"starts_from": "b"}, "b": {"input": "profiles"}}, "expected two methods with input 'images'"),
        (
            {"a": {"starts_from": "b"}, "b": {"input": "model_profiles", "datasets": ["table"]}},
            "'a' with input 'images' starts from 'b' with input 'model_profiles'; expected two methods",
        ),
        ({"a": {"input": "model_profiles"}}, "data set 'screen' has no preprocessing_model"),
        (
            {"a": {"input": "model_profiles", "datasets": "all"}},
            "a method with input 'model_profiles' needs a list of data sets under 'datasets'",
        ),
        ({"a": {"split": {"strategy": "random"}}}, "method 'a' is trained and has a key 'split'"),
        (
            {"a": {"starts_from": "b", "datasets": ["screen", "second"]}, "b": {}},
            "'b' does not take data set 'second'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(methods, sentence):
    kinds = documents(**methods)
    for document in kinds["methods"].values():
        if document.value.get("class", "") is None:
            del document.value["class"]
    with pytest.raises(SpecError) as error:
        resolve_methods(kinds, "demo")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_that_nobody_gives_is_missed():
    kinds = documents(a={})
    del kinds["methods"]["a"].value["reference"]
    with pytest.raises(SpecError, match="method 'a' has no key 'reference'"):
        resolve_methods(kinds, "demo")
