import pandas as pd

from loggos.tables import kept


def test_what_is_drawn_is_what_the_file_says(tmp_path):
    # Drawn of more digits than are published, a figure would differ a little when drawn again.
    frame = pd.DataFrame({"name": ["a", "b"], "ms": [1 / 3, float("nan")], "time_ns": [2**60, 1]})
    found = kept(frame, tmp_path, "times")
    assert found.equals(pd.read_csv(tmp_path / "times.csv"))
    assert found["ms"][0] == 0.333333
    assert found["ms"].isna().tolist() == [False, True]
    assert found["time_ns"].tolist() == [2**60, 1]
