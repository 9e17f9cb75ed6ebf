"""Another encoder is a class and a line of the table."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.cluster import KMeans

from flowpipe.cli import main
from flowpipe.commands import doctor
from flowpipe.encoding import ENCODERS, Encoder
from flowpipe.encoding.base import ClipEncoder, iterate_clips, sample_clips
from flowpipe.encoding.files import load_encoders, load_vectors
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import ParameterError
from flowpipe.trajectories.table import Table
from tests.helpers.tables import made_up_set, with_split, write_tables


class Vlad(ClipEncoder):
    """Sums of the differences to the nearest cluster centre (Jegou et al., CVPR 2010)."""

    def __init__(self, n_clusters: int = 4, *, n_rows: int = 1000, random_state: Any = 0):
        self.n_clusters = n_clusters
        self.n_rows = n_rows
        self.random_state = random_state

    def fit(self, X, y=None):
        clips = list(iterate_clips(self, X, reset=True))
        rows = sample_clips(clips, self.n_rows, np.random.default_rng(self.random_state))
        self.centers_ = KMeans(self.n_clusters, random_state=self.random_state).fit(rows)
        self.centers_ = self.centers_.cluster_centers_.astype(np.float64)
        return self

    def sufficient_statistics(self, rows):
        differences = rows[:, None] - self.centers_
        nearest = (differences**2).sum(axis=2).argmin(axis=1)
        sums = np.zeros(self.centers_.shape)
        np.add.at(sums, nearest, differences[np.arange(len(rows)), nearest])
        return sums

    def finalize(self, statistics):
        return statistics.ravel() / max(float(np.linalg.norm(statistics)), 1e-9)

    @property
    def n_outputs(self):
        return self.centers_.size

    def to_arrays(self):
        return {"centers": self.centers_}

    def from_arrays(self, take):
        self.centers_ = take("centers", (self.n_clusters, None))
        self.n_features_in_ = self.centers_.shape[1]


@pytest.fixture
def toy(monkeypatch):
    entry = Encoder(
        "toy vectors",
        f"{__name__}:Vlad",
        kernel="linear",
        rows=500,
        published="none",
        options={"n_clusters": "clusters"},
    )
    monkeypatch.setitem(ENCODERS, "toy", entry)


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.mark.usefixtures("toy", "no_flushing")
def test_a_new_encoder_runs_from_the_command_line(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    (tmp_path / "videos/dataset.csv").write_text(
        "path,label,group\n"
        + "".join(f"{clip.name}.avi,{clip.label},{clip.group}\n" for clip in dataset.clips)
    )
    tables = write_tables(dataset, tmp_path / "tables")
    vectors, scores = tmp_path / "vectors", tmp_path / "scores"
    options = ("--encoding", "toy", "--clusters", "3", "--descriptors", "hof", "--jobs", "0")
    set_of = (tmp_path / "videos/dataset.csv", tables, "--protocol", "loo")
    assert run("encode", *set_of, "--out", vectors, *options) == 0
    assert run("classify", vectors, "--out", scores, "--jobs", "0") == 0
    metrics = json.loads((scores / "metrics.json").read_text())
    assert metrics["stage"]["encode"]["clusters"] == 3
    assert sum(map(sum, metrics["confusion"])) == 6
    encoders, _ = load_encoders(vectors / "encoders/1-hof.npz")
    found, _ = load_vectors(vectors / "vectors/hug/0.npz", ("1-hof",))
    with Table(tables / "hug/0.h5") as table:
        assert np.array_equal(found["1-hof"], encoders["hof"].encode(table.read()["hof"]))


@pytest.mark.usefixtures("toy")
def test_a_new_encoder_is_in_help_errors_and_doctor(capsys):
    assert run("encode", "--help") == 0
    assert "{fisher,bow,toy}" in capsys.readouterr().out
    with pytest.raises(ParameterError, match="it must be one of fisher, bow, toy"):
        Encoding(encoding="other")
    with pytest.raises(ParameterError, match="clusters is an option of bow, toy"):
        Encoding(clusters=7)
    console = Console(file=io.StringIO(), width=100)
    doctor.report(console)
    assert "toy vectors" in console.file.getvalue()


def test_the_table_names_arguments_and_options_that_there_are():
    known = {field.name for field in fields(Encoding)}
    for name, entry in ENCODERS.items():
        assert set(entry.options.values()) <= known
        encoder = Encoding(encoding=name).create()
        assert set(entry.options) <= set(encoder.get_params())
        assert encoder.n_rows == entry.rows


def test_the_table_imports_nothing_heavy():
    code = (
        "import sys, flowpipe.encoding; "
        "print([m for m in ('torch', 'numba', 'cv2', 'sklearn', 'numpy') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
