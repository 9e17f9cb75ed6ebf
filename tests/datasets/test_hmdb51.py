from __future__ import annotations

import pytest

from flowpipe.datasets.hmdb51 import hmdb51
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.trees import make, write

WAVE = "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0"
ODD = "#20_(HQ)_Film!_wave_u_nm_np1_fr_goo_1"
SHAKE = "A_Beautiful_Mind_shake_hands_u_cm_np2_le_goo_2"


def test_ids_are_train_test_and_unused(tmp_path):
    root = make(
        tmp_path / "hmdb51", f"wave/{WAVE}.avi", f"wave/{ODD}.avi", f"shake_hands/{SHAKE}.avi"
    )
    folder = tmp_path / "testTrainMulti_7030_splits"
    write(folder / "wave_test_split1.txt", f"{WAVE}.avi 1 ", f"{ODD}.avi 0 ", "gone.avi 0 ")
    write(folder / "wave_test_split2.txt", f"{WAVE}.avi 2 ", f"{ODD}.avi 1 ", "gone.avi 0 ")
    write(folder / "shake_hands_test_split1.txt", f"{SHAKE}.avi 2 ")
    write(folder / "shake_hands_test_split2.txt", f"{SHAKE}.avi 1 ")
    found = hmdb51(root)
    assert found.classes == ("shake_hands", "wave")
    assert [(split.name, split.train, split.test) for split in found.splits] == [
        ("split1", (f"wave/{WAVE}",), (f"shake_hands/{SHAKE}",)),
        ("split2", (f"shake_hands/{SHAKE}", f"wave/{ODD}"), (f"wave/{WAVE}",)),
    ]
    assert {clip.name: clip.group for clip in found.clips} == {
        f"wave/{WAVE}": "wave/20060723sfjffbartsinger",
        f"wave/{ODD}": "wave/#20_(HQ)_Film!",
        f"shake_hands/{SHAKE}": "shake_hands/A_Beautiful_Mind",
    }
    assert found.missing() == ("wave/gone",)


def test_without_lists_there_are_no_splits(tmp_path):
    found = hmdb51(make(tmp_path / "x" / "hmdb51", f"wave/{WAVE}.avi"))
    assert found.classes == ("wave",)
    assert found.splits == ()


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi", "a 1", f"{WAVE}.avi 1"])
def test_a_malformed_line_is_named(tmp_path, line):
    make(tmp_path, f"wave/{WAVE}.avi")
    write(tmp_path / "splits" / "wave_test_split1.txt", f"{WAVE}.avi 1", line)
    with pytest.raises(FormatError) as caught:
        hmdb51(tmp_path)
    assert "wave_test_split1.txt" in str(caught.value)
    assert "line 2" in str(caught.value)
    assert repr(line) in str(caught.value)
    assert "0, 1 or 2" in str(caught.value)


def test_a_class_without_one_of_its_lists_is_an_error(tmp_path):
    make(tmp_path, f"wave/{WAVE}.avi")
    write(tmp_path / "splits" / "wave_test_split1.txt", f"{WAVE}.avi 1")
    write(tmp_path / "splits" / "wave_test_split2.txt", f"{WAVE}.avi 1")
    write(tmp_path / "splits" / "hug_test_split1.txt", "x.avi 1")
    with pytest.raises(FormatError, match=r"hug_test_split2\.txt"):
        hmdb51(tmp_path)


def test_wrong_folders_are_errors(tmp_path):
    with pytest.raises(FormatError, match="no class folder"):
        hmdb51(make(tmp_path, f"{WAVE}.avi"))
    with pytest.raises(ParameterError, match=r"_test_split1\.txt"):
        hmdb51(tmp_path, make(tmp_path / "empty", "x.txt"))
