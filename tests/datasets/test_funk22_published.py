import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from morphobench.errors import DataError
from morphobench.profiles import check_profiles


@pytest.mark.mirror
def test_the_real_embedding_has_the_known_counts(real):
    raw = real("funk22_published")
    collection = raw.read()
    (source,) = collection
    profiles = source.read()
    check_profiles(profiles, "published")
    assert profiles.features.shape == (3090, 64)
    assert (profiles.metadata["Metadata_Control"] == "negcon").sum() == 1
    assert (profiles.metadata["Metadata_Split"] == "test").all()
    sets = collection.annotations.groupby("collection")
    corum, function = sets.get_group("corum"), sets.get_group("function")
    assert corum["entity"].nunique() == 1195
    assert function["set"].nunique() == 17
    assert function["entity"].is_unique
    groups = json.loads(raw.path("functions").read_text())
    assert len(groups) == 894
    assert len(function) + (collection.excluded["what"] == "gene").sum() == 894
    assert (corum.groupby("set").size() >= 2).all()
    assert set(corum["entity"]) | set(function["entity"]) <= set(profiles.metadata["Metadata_Gene"])
    assert collection.notes["corum pairs"]["disagreeing"] == 25


@pytest.mark.mirror
def test_real_features_and_complexes_against_a_plain_reading(real):
    raw = real("funk22_published")
    collection = raw.read()
    profiles = next(iter(collection)).read()
    frame = pd.read_parquet(raw.path("embedding"))
    salient = [i for i, name in enumerate(profiles.names) if name.startswith("salient_")]
    background = [i for i, name in enumerate(profiles.names) if name.startswith("background_")]
    assert [profiles.names[i] for i in salient] == [f"salient_{i:02d}" for i in range(32)]
    np.testing.assert_array_equal(profiles.features[:, salient], frame[[str(i) for i in range(32)]])
    np.testing.assert_array_equal(profiles.features[:, background], frame[[str(i) for i in range(32, 64)]])
    genes = set(frame.index) - {"nontargeting"}
    pairs = set()
    for line in raw.path("corum").read_text().splitlines():
        pairs |= set(combinations(sorted(set(line.split("\t")[1].split()) & genes), 2))
    corum = collection.annotations[collection.annotations["collection"] == "corum"]
    made = {p for _, g in corum.groupby("set")["entity"] for p in combinations(sorted(g), 2)}
    assert made == pairs


def test_control_and_names(raw):
    collection = raw("funk22_published").read()
    profiles = next(iter(collection)).read()
    check_profiles(profiles, "simulated")
    assert collection.names == profiles.names
    assert profiles.metadata.loc[profiles.metadata["Metadata_Control"] == "negcon", "Metadata_Gene"].tolist() == [
        "nontargeting"
    ]
    assert "nontargeting" not in set(collection.annotations["entity"])


def test_complexes_of_one_screened_gene_are_listed_as_left_out(raw):
    files = raw("funk22_published")
    with files.path("corum").open("a") as stream:
        stream.write("Lonely\tSIMG0001 NOTSCREENED\nTwins\tSIMG0001 SIMG0001\n")
    collection = files.read()
    out = collection.excluded.set_index("id")["reason"]
    assert out["Lonely"].startswith("1 of its genes screened")
    assert out["Twins"].startswith("1 of its genes screened")
    assert not {"Lonely", "Twins"} & set(collection.annotations["set"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="17"), "column 17 is missing"),
        (lambda f: pd.concat([f, f.iloc[[4]]]), "occurs twice"),
        (lambda f: f.drop(index="nontargeting"), "no row 'nontargeting'"),
        (lambda f: f.reset_index(), "the index is None"),
    ],
)
def test_bad_embeddings(raw, change, words):
    files = raw("funk22_published")
    path = files.path("embedding")
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(DataError, match=words) as caught:
        files.read()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("embedding", b"PAR1 and no more", "not a readable parquet file"),
        ("corum", b"Name without genes\n", "line 1 is not a complex"),
        ("corum", b"A\tX Y\nA\tX Z\n", "occurs again in line 2"),
        ("corum", b"\xff\xfe", "not a readable text file"),
        ("functions", b"{", "not valid JSON"),
        ("functions", b'["a"]', "expected one JSON object"),
        ("corum_pairs", b"one,two\nA,B\n", "column entity1 is missing"),
    ],
)
def test_bad_files(raw, name, content, words):
    files = raw("funk22_published")
    files.path(name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        files.read()
    assert str(files.path(name)) in str(caught.value)
