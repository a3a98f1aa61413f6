"""The history of a stage: mean losses, speed and collapse watch, as rows of a table and as a picture."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.files import atomic_path
from morphobench.learning.collapse import LEAST_RANK, LEAST_SPREAD, draw_collapse
from morphobench.report.figures_style import COLOURS, GREY, pyplot, save

# Mini-batches that one row is the mean of.
LOG_EVERY = 25
# Seconds between pictures during training; drawing one takes a third of a second.
DRAW_EVERY = 60.0


class History:
    """Rows of the table, each the mean of some mini-batches; part of every checkpoint.

    Attributes
    ----------
    rows
        One dict a row: ``epoch`` (from 1), ``step`` (mini-batches seen), ``seconds``, ``profiles_per_second``,
        ``learning_rate``, ``loss`` and its parts; the last of an epoch with ``embedding_spread``,
        ``effective_rank``, ``collapsed`` and ``check_seconds``.
    seconds
        Of training, interruptions left out.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._sums: dict[str, float] = {}
        self._steps = self._wells = 0
        self._row_seconds = 0.0
        self._begun = self._drawn = time.monotonic()

    def begin(self) -> None:
        """Measure time from now on."""
        self._begun = time.monotonic()

    def pause(self) -> None:
        """Add the time since ``begin`` to that of training."""
        now = time.monotonic()
        self.seconds += now - self._begun
        self._row_seconds += now - self._begun
        self._begun = now

    def add(self, parts: Mapping[str, float], wells: int) -> None:
        """Take in the losses of a mini-batch."""
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1
        self._wells += wells

    def row(self, epoch: int, step: int, learning_rate: float, *, last: bool) -> None:
        """Make a row if there are mini-batches enough for one, or any and they are the epoch's last."""
        if not self._steps or (self._steps < LOG_EVERY and not last):
            return
        self.pause()
        speed = self._wells / max(self._row_seconds, 1e-9)
        means = {name: value / self._steps for name, value in self._sums.items()}
        times = {"seconds": self.seconds, "profiles_per_second": speed}
        self.rows.append({"epoch": epoch, "step": step, **times, "learning_rate": learning_rate, **means})
        self._sums, self._steps, self._wells, self._row_seconds = {}, 0, 0, 0.0

    def judge(self, found: Mapping[str, Any], epochs: int) -> None:
        """Add what :func:`morphobench.learning.monitor.watch` found to the last row, and say how it stands."""
        self.rows[-1] |= found
        row = self.rows[-1]
        print(
            f"epoch {row['epoch']} of {epochs}: loss {row['loss']:.4g}, spread {row['embedding_spread']:.3f}, "
            f"effective rank {row['effective_rank']:.1f}, {row['profiles_per_second']:.0f} profiles/s",
            flush=True,
        )
        if row["collapsed"]:
            print(
                f"warning: the representations collapse (spread below {LEAST_SPREAD:g} or effective rank below "
                f"{LEAST_RANK:g}): wells are hardly told apart after epoch {row['epoch']}",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        counts = {"steps": self._steps, "wells": self._wells, "row_seconds": self._row_seconds}
        return {"rows": self.rows, "seconds": self.seconds, "sums": self._sums, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.rows, self.seconds, self._sums = list(state["rows"]), state["seconds"], dict(state["sums"])
        self._steps, self._wells, self._row_seconds = state["steps"], state["wells"], state["row_seconds"]

    def write(self, folder: Path, *, last: bool = True) -> None:
        """Write ``losses.csv`` and, if it is the last time or the last picture is old, ``losses.png``."""
        table = pd.DataFrame(self.rows)
        with atomic_path(folder / "losses.csv") as part:
            table.to_csv(part, index=False)
        now = time.monotonic()
        if last or now - self._drawn >= DRAW_EVERY:
            draw(table, folder / "losses.png")
            self._drawn = now


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw losses, their parts and the collapse watch over mini-batches; a line where an epoch ends."""
    with pyplot() as plt:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
        parts = [name for name in ("loss", "masked", "contrast") if name in table]
        for colour, name in zip(COLOURS, parts, strict=False):
            left.plot(table["step"], table[name], color=colour, label=name, lw=2 if name == "loss" else 1)
        for end in table.groupby("epoch")["step"].max().iloc[:-1]:
            left.axvline(end, color=GREY, lw=0.8, ls=":")
        left.set(xlabel="mini-batch", title="Loss and its parts")
        left.legend(frameon=False)
        judged = table[table["embedding_spread"].notna()] if "embedding_spread" in table else table.iloc[:0]
        draw_collapse(right, judged, "mini-batch", "representations")
        save(figure, path)
