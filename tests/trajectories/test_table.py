import filecmp
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.errors import FormatError, ParameterError
from flowpipe.trajectories.extract import Trajectories
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import FIELDS, Table, TableWriter, read_table
from flowpipe.trajectories.text import TextWriter, format_rows
from tests.helpers.clips import shared

PARAMETERS = TrajectoryParameters()


def made_up(count: int, seed: int = 0, parameters: TrajectoryParameters = PARAMETERS):
    """Rows with the ranges and the normalisation of real ones."""
    rng = np.random.default_rng(seed)
    fields = {}
    for name, width in parameters.widths.items():
        values = rng.gamma(0.6, size=(count, width)).astype(np.float32)
        fields[name] = np.sqrt(values / values.sum(axis=1, keepdims=True))
    fields["trajectory"] *= rng.choice([-1, 1], fields["trajectory"].shape).astype(np.float32)
    fields["info"] = rng.uniform(0, 300, (count, 10)).astype(np.float32)
    fields["info"][:, 0] = np.sort(rng.integers(15, 200, count))
    fields["info"][:, 9] = 0
    return Trajectories(**fields)


def write(path: Path, rows: Trajectories, step: int = 70, storage="int16") -> None:
    with TableWriter(path, PARAMETERS, storage) as table:
        for first in range(0, len(rows), step):
            part = {name: getattr(rows, name)[first : first + step] for name in FIELDS}
            table.append(Trajectories(**part))
        table.finish(200, 320, 240)


def test_float32_round_trip_is_exact_but_for_the_time(tmp_path):
    rows = made_up(5000)
    write(tmp_path / "a.h5", rows, storage="float32")
    back = read_table(tmp_path / "a.h5")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(back, name)[:, :9], getattr(rows, name)[:, :9])
        np.testing.assert_array_equal(getattr(back, name)[:, 10:], getattr(rows, name)[:, 10:])
    time = np.clip((rows.info[:, 0] - 7.5) / 200, 0, 0.999)
    np.testing.assert_allclose(back.info[:, 9], time, atol=1e-6)


def test_default_storage_is_fine_everywhere(tmp_path):
    rows = made_up(300)
    write(tmp_path / "a.h5", rows)
    back = read_table(tmp_path / "a.h5")
    np.testing.assert_array_equal(back.info[:, :9], rows.info[:, :9])
    np.testing.assert_array_equal(back.trajectory, rows.trajectory)
    for name in FIELDS[2:]:
        np.testing.assert_allclose(getattr(back, name), getattr(rows, name), rtol=0, atol=1.6e-5)


def test_a_row_costs_less_than_a_kilobyte(tmp_path):
    write(tmp_path / "a.h5", made_up(2000))
    assert (tmp_path / "a.h5").stat().st_size <= 1000 * 2000


def test_bytes_depend_on_the_content_alone(tmp_path):
    rows = made_up(500)
    write(tmp_path / "a.h5", rows, step=70)
    write(tmp_path / "b.h5", rows, step=41)
    assert filecmp.cmp(tmp_path / "a.h5", tmp_path / "b.h5", shallow=False)


def test_a_table_in_a_file_object():
    stream = io.BytesIO()
    write(stream, made_up(100))
    with Table(stream) as table:
        np.testing.assert_array_equal(table.read()["trajectory"], made_up(100).trajectory)


def test_a_clip_without_rows_is_a_whole_table(tmp_path):
    write(tmp_path / "a.h5", made_up(0))
    with Table(tmp_path / "a.h5") as table:
        assert len(table) == 0
        assert table.parameters == PARAMETERS
        assert table.attributes["length"] == 200
        drawn = table.read([])
    assert drawn["hof"].shape == (0, 108)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 399), max_size=50))
def test_any_rows_in_any_order(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "rows.h5"
    if not path.exists():
        write(path, made_up(400), storage="float32")
    with Table(path) as table:
        some = table.read(rows, ["hog", "trajectory"])
    assert list(some) == ["hog", "trajectory"]
    np.testing.assert_array_equal(some["hog"], made_up(400).hog[rows])


def test_what_is_not_a_whole_table_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no table")
    with pytest.raises(FormatError, match=r"text\.h5"):
        Table(tmp_path / "text.h5")
    with TableWriter(tmp_path / "half.h5", PARAMETERS) as table:
        table.append(made_up(3))
    with pytest.raises(FormatError, match="not finished"):
        Table(tmp_path / "half.h5")
    write(tmp_path / "a.h5", made_up(5))
    with Table(tmp_path / "a.h5") as table:
        with pytest.raises(ParameterError, match="5"):
            table.read([5])
        with pytest.raises(ParameterError, match="sift"):
            table.read(fields=["sift"])
    with pytest.raises(ParameterError, match="float8"):
        TableWriter(tmp_path / "b.h5", PARAMETERS, "float8")


def printf(rows: Trajectories) -> bytes:
    """The lines that C's printf writes with the released programs' formats."""
    lines = []
    for i in range(len(rows)):
        line = f"{rows.info[i, 0]:.0f}\t"
        line += "".join(f"{v:.6f}\t" for v in [*rows.info[i, 1:], *rows.trajectory[i]])
        for name in FIELDS[2:]:
            line += "".join(f"{v:.7f}\t" for v in getattr(rows, name)[i])
        lines.append(line + "\n")
    return "".join(lines).encode()


def test_text_is_that_of_printf(tmp_path):
    rows = made_up(40)
    rows.trajectory[0, :4] = [-1e-9, 0.0, -0.0, 0.9999999]
    rows.hog[0, :4] = [0.5, 1.0, 5e-8, 2.0**-20]
    rows.info[1, 1:4] = [12345.678, 1e6, 999999.96875]
    text, places = format_rows(rows)
    assert text == printf(rows)
    assert all(text[p : p + 8] == b"0.000000" for p in places.tolist())


# Ties of the sixth and seventh decimal are odd multiples of a power of two: 2**-7 and 2**-8 have
# exactly seven and eight decimals.
TIES = [k * 2.0**-n for n in (7, 8) for k in (1, 3, 5, 255, 257, 2**20 + 1)]
EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e-30, 5e-8, 0.99999994, 9.9999999, 999999.94, 1e6]
LARGEST = float(np.nextafter(np.float32(1e9), np.float32(0)))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(-LARGEST, LARGEST, width=32),
            st.floats(-1, 1, width=32),
            st.sampled_from([*TIES, *[-tie for tie in TIES], *EXTREMES, LARGEST, -LARGEST]),
        ),
        min_size=1,
        max_size=436,
    )
)
def test_text_of_any_number_is_that_of_printf(values):
    rows = made_up(3)
    # Every column has every kind of number in one of the rows, the frame and the time too.
    table = np.resize(np.float32(values), (3, 436))
    widths = [getattr(rows, name).shape[1] for name in FIELDS]
    columns = np.split(table, np.cumsum(widths)[:-1], axis=1)
    rows = Trajectories(**dict(zip(FIELDS, columns, strict=True)))
    text, places = format_rows(rows)
    assert text == printf(rows)
    tabs = [line.split(b"\t") for line in text.splitlines()]
    times = [text[p:].split(b"\t")[0] for p in places.tolist()]
    assert times == [line[9] for line in tabs]


@pytest.mark.parametrize("name", ["dt_boxing", "idt_boxing"])
def test_text_of_the_released_programs_rows_is_that_of_printf(name):
    with np.load(shared("golden", f"{name}.npz")) as file:
        info, features = file["info"][file["rows"]], file["features"]
    ends = np.cumsum([PARAMETERS.widths[name] for name in FIELDS[1:-1]])
    rows = Trajectories(info, *np.split(features, ends, axis=1))
    assert format_rows(rows)[0] == printf(rows)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e9, 3e38])
def test_numbers_without_a_text_of_fixed_decimals_are_refused(value):
    rows = made_up(2)
    rows.hof[1, 3] = value
    with pytest.raises(ParameterError, match="not finite or beyond"):
        format_rows(rows)


def test_text_of_no_rows_is_empty():
    assert format_rows(made_up(0))[0] == b""


def test_text_writer_fills_in_the_time():
    rows = made_up(30)
    file = io.BytesIO()
    writer = TextWriter(file, PARAMETERS)
    for first in (0, 10):
        last = {0: 10, 10: 30}[first]
        writer.append(Trajectories(**{n: getattr(rows, n)[first:last] for n in FIELDS}))
    writer.finish(200)
    rows.info[:, 9] = np.clip((rows.info[:, 0] - 7.5) / np.float32(200), 0, 0.999)
    assert file.getvalue() == printf(rows)
    line = file.getvalue().splitlines()[0]
    assert line.count(b"\t") == 436
    assert re.match(rb"\d+\t\d+\.\d{6}\t", line)
