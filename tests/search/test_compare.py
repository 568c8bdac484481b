# SPDX-License-Identifier: MIT
"""`compare`: the names of logs, rows, text and picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from freewire.errors import InputError
from freewire.search import compare
from freewire.search.comparison_columns import Column, columns_of
from freewire.search.picture_style import COLOURS
from tests.search.recorded import line, searched, write
from tests.support.messages import assert_refused


def shifted(lines, by):
    return [{**each, "value": each["value"] + by} for each in lines]


@pytest.fixture
def logs(tmp_path):
    """Two searches in files of one name; the second is shorter, and better by 0.2."""
    first = write(tmp_path / "random" / "search.jsonl", searched())
    second = write(tmp_path / "evolved" / "search.jsonl", shifted(searched(10), 0.2), strategy="Evolution", seed=4)
    return [first, second]


class TestRows:
    def test_values(self, logs):
        random, evolved = compare(logs).rows
        assert random[:6] == ("random/search", "RandomSearch", 3, 24, 24, pytest.approx(0.73))
        assert random[6:] == (23, pytest.approx(0.615), pytest.approx(0.59), 48.0)
        assert evolved[:6] == ("evolved/search", "Evolution", 4, 10, 10, pytest.approx(0.79))
        assert evolved.best_of_first == evolved.best

    def test_text(self, logs):
        text = [" ".join(row.split()) for row in str(compare(logs)).splitlines()]
        assert text[0] == "log strategy seed trials finished best of trial median best of first 10 work"
        assert text[1] == "random/search RandomSearch 3 24 24 0.73 23 0.615 0.59 48.0 s"
        assert text[2] == "evolved/search Evolution 4 10 10 0.79 9 0.745 0.79 20.0 s"
        assert text[4:7] == [
            "rank correlation with the value random/search evolved/search", "x +1.00 +1.00", "clustering -1.00 -1.00",
        ]  # fmt: skip

    def test_search_without_results(self, logs):
        text = str(compare({"good": logs[0], "bad": [line(0, None, "failed")]})).splitlines()
        assert text[2].split() == ["bad", "-", "-", "1", "0", "-", "-", "-", "-", "2.0", "s"]
        assert "x                                +1.00    -" in text

    @pytest.mark.parametrize(
        ("paths", "names"),
        [
            (["a/one.jsonl", "a/two.jsonl"], ["one", "two"]),
            (["x/a/log.jsonl", "y/a/log.jsonl"], ["x/a/log", "y/a/log"]),
            (["a/log.jsonl", "a/log.jsonl"], ["a/log (0)", "a/log (1)"]),
        ],
    )
    def test_names(self, tmp_path, monkeypatch, paths, names):
        monkeypatch.chdir(tmp_path)
        assert list(compare([write(Path(path), searched(3)) for path in paths]).reports) == names

    def test_names_of_lines(self, logs):
        assert list(compare([logs[0], searched(3)]).reports) == ["search", "log 1"]
        assert list(compare({"mine": logs[0]}).reports) == ["mine"]

    @pytest.mark.parametrize(("given", "got"), [("search.jsonl", "'search.jsonl'"), (7, "7")])
    def test_no_list(self, given, got):
        assert_refused(lambda: compare(given), f"logs: expected a list of from 1 to 7 logs, got {got}. ", InputError)

    @pytest.mark.parametrize("count", [0, 8])
    def test_number_of_logs(self, count):
        expected = f"logs: expected from 1 to 7 logs, got {count}. Choose some."
        assert_refused(lambda: compare([searched(3)] * count), expected, InputError)


class TestColumns:
    def test_numbers(self):
        column = Column("x", (), 2.0, 6.0)
        np.testing.assert_array_equal(column.positions([2, 3.0, ..., "a"]), [2, 3, np.nan, np.nan])
        np.testing.assert_array_equal(column.places([2, 3.0, ...]), [0, 0.25, np.nan])
        assert column.ticks() == [(0.0, "2"), (0.25, "3"), (0.5, "4"), (0.75, "5"), (1.0, "6")]

    def test_choices(self):
        column = Column("family", ("BA", "ER", "null"), 0.0, 2.0)
        np.testing.assert_array_equal(column.places(["ER", "BA", None, ...]), [0.5, 0, 1, np.nan])
        assert column.ticks() == [(0.0, "BA"), (0.5, "ER"), (1.0, "null")]

    @pytest.mark.parametrize(
        ("column", "text"), [(Column("x", (), 7.0, 7.0), "7"), (Column("x", ("a",), 0.0, 0.0), "a")]
    )
    def test_constant(self, column, text):
        value = text if column.choices else 7
        np.testing.assert_array_equal(column.places([value, ...]), [0.5, np.nan])
        assert column.ticks() == [(0.5, text)]

    def test_which(self):
        lines = [
            line(i, float(i), params={"n": i, "mixed": i or "none", "text": f"t{i}", "k": [i % 2]}) for i in range(21)
        ]
        columns, total = columns_of(compare([lines]).reports)
        assert total == len(columns)
        assert [(each.name, each.choices) for each in columns] == [("n", ()), ("k", ("[0]", "[1]"))]
        assert (columns[0].low, columns[0].high) == (0, 20)  # "mixed" and "text" have 21 different texts

    def test_at_most_twelve(self):
        lines = [line(i, float(i), params={f"p{j}": i + j for j in range(30)}) for i in range(3)]
        columns, total = columns_of(compare([lines]).reports)
        assert [each.name for each in columns] == [f"p{j}" for j in range(12)]
        assert total == 30
        figure = compare([lines]).figure()
        assert any("; 12 of 30 parameters" in each.get_title() for each in figure.axes)


class TestPicture:
    def test_panels(self, logs):
        figure = compare(logs).figure()
        progress, spread, parallel, *panels = figure.axes
        for curve, values in zip(progress.lines, (searched(), shifted(searched(10), 0.2)), strict=True):
            np.testing.assert_allclose(curve.get_ydata(), [each["value"] for each in values])
            assert curve.get_xdata()[0] == 1
        assert [tick.get_text() for tick in spread.get_xticklabels()] == ["random/search", "evolved/search"]
        names = ["x", "family", "fixed", "clustering", "path_length", "edges"]
        assert [tick.get_text() for tick in parallel.get_xticklabels()] == [*names, "value"]
        assert [each.get_xlabel() for each in panels[: len(names)]] == names
        assert not panels[-1].axison

    def test_parallel_coordinates(self, logs):
        parallel = compare(logs).figure().axes[2]
        others, best, *_ = parallel.collections
        assert (len(others.get_segments()), len(best.get_segments())) == (19, 5)
        np.testing.assert_allclose(best.get_color()[0], to_rgba(COLOURS[0]))
        places = best.get_segments()[0][:, 1]  # trial 23 of x 0 to 2.3, family WS of three, values 0.5 to 0.79
        np.testing.assert_allclose(places[[0, 1, 2, 3]], [1, 1, 0.5, 0], atol=1e-12)
        assert places[-1] == pytest.approx(0.23 / 0.29)

    def test_other_parameters_are_gaps(self, logs):
        lines = [line(i, 0.6, params={"x": 1.0, "y": i}) for i in range(4)]
        parallel = compare([logs[0], lines]).figure().axes[2]
        names = [tick.get_text() for tick in parallel.get_xticklabels()]
        best = [each for each in parallel.collections if each.get_label() == "log 1"]
        places = best[0].get_segments()
        assert sum(map(len, places)) < 4 * len(names)
        assert {point[0] for each in places for point in each} <= {names.index(name) for name in ("x", "y", "value")}

    def test_many_trials(self):
        lines = [line(i, float(i), params={"x": i}) for i in range(2000)]
        others, best = compare([lines]).figure().axes[2].collections
        assert (len(others.get_segments()), len(best.get_segments())) == (495, 5)
        assert best.get_segments()[0][:, 1].tolist() == [1, 1]

    def test_value_against_parameters(self, logs):
        x, family = compare(logs).figure().axes[3:5]
        np.testing.assert_allclose(sorted(x.collections[0].get_offsets()[:, 0]), 0.1 * np.arange(24))
        assert [tick.get_text() for tick in family.get_xticklabels()] == ["BA", "ER", "WS"]
        np.testing.assert_allclose(
            family.collections[0].get_offsets()[:, 0].round(), [t % 3 for t in range(23, -1, -1)]
        )

    def test_far_lower_values_do_not_press_the_others_together(self):
        lines = searched()
        lines[4]["value"] = -100.0
        spread, parallel, *panels = compare([lines]).figure().axes[1:]
        for axes in (spread, *panels[:6]):
            assert axes.get_ylim()[0] > -1
            assert [text.get_text() for text in axes.texts] == ["1 lower"]
        heights = [segment[-1, 1] for segment in parallel.collections[0].get_segments()]
        assert min(heights) == 0

    def test_without_parameters(self):
        assert len(compare([[line(i, float(i)) for i in range(3)]]).figure().axes) == 2

    def test_one_search_without_results(self, logs):
        figure = compare({"good": logs[0], "bad": [line(0, None, "failed")]}).figure()
        assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["good", "bad"]

    def test_nothing_finished(self):
        expected = "logs: expected a trial that has finished, got none. Draw the searches later."
        assert_refused(lambda: compare([[line(0, None, "failed")]]).figure(), expected, InputError)

    def test_file(self, logs, tmp_path):
        compare(logs).plot(tmp_path / "compared.png")
        assert (tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")
        assert_refused(lambda: compare(logs).plot("a.gif"), "path: expected the name of a picture, such as", InputError)
