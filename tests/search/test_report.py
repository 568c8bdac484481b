# SPDX-License-Identifier: MIT
"""`report`: what it computes from a log, its text and its picture."""

from __future__ import annotations

import math
import sys

import matplotlib.image
import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_rgba

from freewire.errors import BuildError, FileFormatError, InputError
from freewire.search import RandomSearch, read_log, report, run
from freewire.search.picture_style import COLOURS, ValueRange
from freewire.search.recorded_trials import as_number, as_text, best_so_far, rank_correlation
from freewire.search.search_report import duration
from tests.search.recorded import evolved, line, searched, write
from tests.support.messages import assert_refused


def quadratic(params):
    return -((params["x"] - 3) ** 2)


class TestNumbers:
    @pytest.mark.parametrize("xs", [range(7), (3, 1, 3, 2, 2, 3, 0)])
    def test_rank_correlation(self, xs):
        ys = np.array([0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2])
        expected = scipy.stats.spearmanr(xs, ys).statistic
        assert rank_correlation(np.array(xs, float), ys) == pytest.approx(expected)
        with_gaps = np.array([*xs, math.nan, 1.0]), np.array([*ys, 0.5, math.nan])
        assert rank_correlation(*with_gaps) == pytest.approx(expected)

    def test_no_rank_correlation(self):
        assert math.isnan(rank_correlation(np.ones(7), np.arange(7.0)))
        assert math.isnan(rank_correlation(np.arange(2.0), np.arange(2.0)))

    def test_best_so_far(self):
        nan = math.nan
        np.testing.assert_array_equal(best_so_far(np.array([nan, 1, 0, nan, 3, 2])), [nan, 1, 1, 1, 3, 3])
        assert len(best_so_far(np.array([]))) == 0

    def test_what_is_a_number(self):
        values = [1, 2.5, True, "3", None, [4], math.inf, 10**400]
        assert [as_number(value) for value in values] == [1.0, 2.5, *[None] * 6]

    def test_text_of_a_value(self):
        assert [as_text(value) for value in (0.123456, 7, "ER", True, None, [1, 2])] == [
            "0.1235", "7", "ER", "true", "null", "[1, 2]",
        ]  # fmt: skip
        assert as_text("x" * 99) == "x" * 21 + "..."

    @pytest.mark.parametrize(
        ("values", "low"),
        [
            ([1, 2, 3, 4, 5, math.nan], 1),
            ([-99, 1, 2, 3, 4, 5, 6, 7], 1.75 - 3 * 3.5),
            ([0, 1, 1, 1, 1], 0),
            ([2], 2),
        ],
    )
    def test_range_of_values(self, values, low):
        found = ValueRange.of(np.array(values, float))
        assert (found.low, found.high) == (low, np.nanmax(values))

    def test_durations(self):
        assert [duration(s) for s in (3.21, 310.4, 7505)] == ["3.2 s", "5 min 10 s", "2 h 5 min"]


class TestReport:
    def test_of_a_search(self, tmp_path):
        log = tmp_path / "search.jsonl"
        best = run(quadratic, RandomSearch({"x": (0.0, 10.0)}), 12, log=log, workers=0, progress=False)
        for source in (log, str(log), read_log(log)):
            found = report(source)
            assert (found.best["trial"], found.best["value"]) == (best.trial, best.value)
            assert [each["trial"] for each in found.lines] == list(range(12))
            assert str(found).startswith("RandomSearch, seed 0: 12 trials (12 finished), ")
        alone = report(read_log(log).lines)
        assert alone.ranked == report(log).ranked
        assert str(alone).startswith("12 trials")

    def test_ranking(self):
        lines = [line(2, 0.5), line(0, 0.7), line(3, 0.7), line(4, 9.0, "pruned"), line(1, None, "failed")]
        found = report(lines)
        assert [each["trial"] for each in found.lines] == [0, 1, 2, 3, 4]
        assert [each["trial"] for each in found.ranked] == [0, 3, 2]
        assert found.median == 0.7
        assert found.counts == {"finished": 3, "failed": 1, "pruned": 1}
        assert found.best_graph is None

    def test_text(self, tmp_path):
        lines = [*searched(), line(24, None, "timeout"), line(25, None, "failed")]
        text = str(report(write(tmp_path / "a.jsonl", lines))).splitlines()
        assert text[0] == "RandomSearch, seed 3: 26 trials (24 finished, 1 timeout, 1 failed), 52.0 s of work"
        assert text[1] == "best 0.73 (trial 23), median 0.615, worst 0.5"
        top = [" ".join(row.split()) for row in text[4:9]]
        assert [row.split()[0] for row in top] == ["23", "22", "21", "20", "19"]
        assert top[0] == ("23 0.73 2.00 x 2.3, family WS, fixed 7, clustering 0.21, path_length 2.7, edges 40")
        correlations = next(row for row in text if row.startswith("rank correlation"))
        assert correlations.startswith("rank correlation with the value: x +1.00, clustering -1.00, path_length ")
        assert "fixed" not in correlations  # constant
        assert "edges" not in correlations
        assert "within ±0.41 in 19 of 20" in "\n".join(text)
        assert text[-1] == "first error, of trial 24: ValueError: too thin"

    def test_seconds_of_a_batch_count_once(self, tmp_path):
        log = write(tmp_path / "a.jsonl", [line(i, 1.0) for i in range(6)], batch=3)
        assert report(log).seconds == 4.0

    def test_nothing_finished(self, tmp_path):
        found = report(write(tmp_path / "a.jsonl", [line(0, None, "killed")]))
        assert (found.best, found.median, found.best_graph) == (None, None, None)
        text = str(found).splitlines()
        assert text[0] == "RandomSearch, seed 3: 1 trial (1 killed), 2.0 s of work"
        assert text[-1] == "first error, of trial 0: ValueError: too thin"
        assert str(report(write(tmp_path / "b.jsonl", []))).splitlines() == [
            "RandomSearch, seed 3: 0 trials (none yet), 0.0 s of work"
        ]

    def test_measures_that_are_none(self):
        graph = {"clustering": 0.5, "path_length": "long", "name": "x", "edges": math.nan, "nodes": 3}
        assert report([line(0, 1.0, graph=graph)]).measures == {0: {"clustering": 0.5, "nodes": 3.0}}

    @pytest.mark.parametrize("log", [[line(0, 1.0), "a"], [{"trial": 0}], [{"status": "finished"}]])
    def test_other_lines(self, log):
        expected = "log: expected the path of a log or lines of one, got a list with "
        assert_refused(lambda: report(log), expected, InputError)

    def test_other_sources(self, tmp_path):
        assert_refused(lambda: report(7), "path: expected a str, bytes or os.PathLike, got int", InputError)
        other = tmp_path / "other"
        other.write_text("something")
        assert_refused(lambda: report(other), ".*other: expected the log of a search, got ", FileFormatError)


class TestPicture:
    def test_trials(self):
        lines = [*searched(), line(24, 0.6, "pruned"), line(25, None, "failed")]
        axes = report(lines).figure().axes
        dots, pruned = axes[0].collections
        np.testing.assert_allclose(dots.get_offsets()[:, 1][:24], [each["value"] for each in lines[:24]])
        np.testing.assert_array_equal(pruned.get_offsets(), [[24, 0.6]])
        best, failed = axes[0].lines
        np.testing.assert_allclose(best.get_ydata(), [each["value"] for each in lines[:24]] + [0.73] * 2)
        assert failed.get_xdata().tolist() == [25]
        assert axes[0].get_legend() is not None

    def test_without_wirings_there_is_one_panel(self):
        assert len(report([line(i, float(i)) for i in range(3)]).figure().axes) == 1

    def test_wirings(self):
        lines = searched()
        axes = {each.get_xlabel() + "|" + each.get_ylabel(): each for each in report(lines).figure().axes}
        plane = axes["clustering coefficient|average path length (edges)"]
        graph = [each["graph"] for each in lines]
        expected = sorted((each["clustering"], each["path_length"]) for each in graph)
        np.testing.assert_allclose(sorted(map(tuple, plane.collections[0].get_offsets())), expected)
        star = plane.lines[0]
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (graph[23]["clustering"], graph[23]["path_length"])
        against = axes["clustering coefficient|value"]
        assert against.get_title() == "rank correlation -1.00"
        fit = against.lines[0]
        x, y = fit.get_xdata(), fit.get_ydata()
        np.testing.assert_allclose(y, 0.5 + (0.9 - x) / 3, atol=1e-9)  # the line that the values are on

    def test_many_wirings_are_binned(self):
        lines = [
            line(i, float(i % 20), graph={"clustering": (i % 20) / 20, "path_length": 2 + (i // 20) / 20})
            for i in range(400)
        ]
        figure = report(lines).figure()
        plane = next(each for each in figure.axes if each.get_title().startswith("mean value by"))
        assert plane.get_title().endswith("(400)")
        assert 50 < len(plane.collections[0].get_array()) < 400
        assert plane.collections[0].get_array().max() <= 19

    def test_few_wirings_have_no_polynomial(self):
        figure = report(searched(9)).figure()
        against = next(each for each in figure.axes if each.get_title() == "rank correlation -1.00")
        assert not against.lines

    def test_long_paths_have_a_logarithmic_axis(self):
        def scales(longest):
            lines = searched()
            lines[3]["graph"]["path_length"] = longest
            figure = report(lines).figure()
            return [each.get_xscale() for each in figure.axes if each.get_xlabel().startswith("average path")]

        assert scales(5.9) == ["linear"]
        assert scales(6.1) == ["log"]

    def test_far_lower_values_do_not_press_the_others_together(self):
        lines = searched()
        lines[4]["value"] = lines[5]["value"] = -100.0
        figure = report(lines).figure()
        values = [each for each in figure.axes if each.get_ylabel() == "value" and each.get_xlabel()]
        assert len(values) == 3
        for axes in values:
            assert axes.get_ylim()[0] > -1
            assert [text.get_text() for text in axes.texts] == ["2 lower"]
        plane = next(each for each in figure.axes if each.get_title().startswith("value by"))
        assert plane.collections[0].get_clim()[0] > -1
        assert plane.collections[0].colorbar.extend == "min"

    def test_groups(self):
        figure = report(searched()).figure(by="family")
        dots = figure.axes[0].collections
        assert [each.get_label() for each in dots] == ["BA", "ER", "WS"]
        for i, each in enumerate(dots):
            assert each.get_offsets()[:, 0].tolist() == list(range(i, 24, 3))
            np.testing.assert_allclose(each.get_facecolor()[0][:3], to_rgba(COLOURS[i])[:3])
        assert [text.get_text() for text in figure.legends[0].texts] == ["BA", "ER", "WS", "best so far"]

    @pytest.mark.parametrize(("by", "got"), [("x", "'x' with 24"), ("colour", "'colour', which no trial has")])
    def test_other_groups(self, by, got):
        expected = f"by: expected a parameter with at most 7 different values, got {got}. Choose another, or None."
        assert_refused(lambda: report(searched()).figure(by=by), expected, InputError)

    def test_generations(self):
        lines = evolved()
        lines[6] = line(6, None, "failed", generation=1, species=0)  # the best of its generation otherwise
        progress, species = report(lines).figure().axes
        median, best, so_far = progress.lines
        assert best.get_ydata().tolist() == [0, 0, 2, 3]
        assert so_far.get_ydata().tolist() == [0, 0, 2, 3]
        assert median.get_ydata().tolist() == [-2.5, -2, -0.5, 0.5]
        assert species.get_title() == "species: 2 in all, 1 in the last generation"
        first, second = (each.get_paths()[0].get_extents() for each in species.collections)
        assert (first.y0, first.y1) == (0, 2)
        assert second.y1 == 6

    def test_generations_without_species(self):
        lines = [{name: value for name, value in each.items() if name != "species"} for each in evolved()]
        (progress,) = report(lines).figure().axes
        assert progress.get_xlabel() == "generation"

    def test_generation_without_results(self):
        lines = [
            line(i, None if i < 2 else 1.0, "failed" if i < 2 else "finished", generation=i // 2) for i in range(4)
        ]
        (progress,) = report(lines).figure().axes
        np.testing.assert_array_equal(progress.lines[2].get_ydata(), [math.nan, 1])

    @pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
    def test_file(self, tmp_path, suffix):
        path = tmp_path / f"search.{suffix}"
        path.write_text("an old one")
        report([line(i, float(i)) for i in range(3)]).plot(path)
        begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
        assert path.read_bytes().startswith(begins)

    def test_what_the_file_shows(self, tmp_path):
        report(searched()).plot(tmp_path / "search.png", by="family")
        picture = matplotlib.image.imread(tmp_path / "search.png")[..., :3]
        assert picture.shape[0] > 700
        for colour in COLOURS[:3]:
            shade = 0.75 * np.array(to_rgba(colour)[:3]) + 0.25  # on white
            assert (np.abs(picture - shade).max(axis=-1) < 0.02).sum() > 200

    def test_other_file(self, tmp_path):
        expected = "path: expected the name of a picture, such as 'search.png', got '.*search.gif'. End it with"
        assert_refused(lambda: report(searched()).plot(tmp_path / "search.gif"), expected, InputError)

    def test_nothing_finished(self, tmp_path):
        expected = "log: expected a trial that has finished, got none. Draw the search later."
        assert_refused(lambda: report([line(0, None, "failed")]).plot(tmp_path / "a.png"), expected, InputError)
        assert not list(tmp_path.iterdir())

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        expected = r"matplotlib: expected it to be installed, got no such package\. Run: pip install 'freewire\[search"
        with pytest.raises(BuildError, match=expected):
            report(searched()).figure()

    def test_notebook(self):
        assert report([line(0, 1.0)]).figure()._repr_png_().startswith(b"\x89PNG")
