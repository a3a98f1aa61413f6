import numpy as np
import pandas as pd
import pytest

from morphobench.profilenets import history, stages
from morphobench.profilenets.objectives import Objective

from .trainings import data, network, stage, structured, trained


@pytest.fixture(scope="module")
def profiles():
    return structured()


def test_history_is_the_mean_of_mini_batches(profiles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(history, "LOG_EVERY", 4)
    seen, own = [], Objective.__call__

    def noted(self, *tensors):
        parts = own(self, *tensors)
        seen.append({name: float(part.detach()) for name, part in parts.items()})
        return parts

    monkeypatch.setattr(Objective, "__call__", noted)
    feed = data(profiles, "mixed")
    how = stage(1.0)
    _, facts = trained(network(feed), feed, how, tmp_path)
    table = pd.read_csv(tmp_path / "losses.csv")
    ends = np.cumsum([feed.steps(0), feed.steps(1)])
    starts = [0, *table["step"][:-1]]
    assert set(ends) <= set(table["step"])
    for start, row in zip(starts, table.to_dict("records"), strict=True):
        assert row["step"] - start <= 4
        for name in ("loss", "masked", "contrast"):
            assert row[name] == pytest.approx(np.mean([parts[name] for parts in seen[start : row["step"]]]))
    np.testing.assert_allclose(table["loss"], table["masked"] + table["contrast"], rtol=1e-5)
    judged = table["embedding_spread"].notna()
    assert table["step"][judged].tolist() == ends.tolist()
    assert facts["embedding_spread"] == pytest.approx(table["embedding_spread"].iloc[-1])
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "epoch 2 of 2: loss" in capsys.readouterr().out


def test_collapse_is_said_and_kept(profiles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        stages, "represent", lambda net, batch, device: np.ones((len(batch["row"]), 4), np.float32)
    )
    feed = data(profiles)
    _, facts = trained(network(feed), feed, stage(epochs=1), tmp_path)
    assert facts["collapsed"]
    assert "representations collapse" in capsys.readouterr().out
