# SPDX-License-Identifier: MIT
"""The log of a search: intact, cut anywhere, damaged, of another search, in use, on a full disk."""

from __future__ import annotations

import errno
import functools
import json
import os

import pytest

import freewire as fw
from freewire.search import RandomSearch, read_log
from freewire.search.log import Log
from freewire.search.log_format import header_of
from tests.support.messages import assert_refused

HEADER = header_of("RandomSearch", {"space": {"k": [2, 4]}, "strategy_seed": 0}, 3, 1)
BATCHES = header_of("NEAT", {"population": 3}, 3, 3)


def line(trial, **more):
    """A line of the log; trial 2 has failed."""
    outcome = {"value": None, "status": "failed", "error": "no"} if trial == 2 else {"value": 0.5, "status": "finished"}
    return {"trial": trial, "params": {"k": 2}, **outcome, "seconds": 0.25, **more}


@pytest.fixture
def path(tmp_path):
    """A log of three trials."""
    path = tmp_path / "search.jsonl"
    with Log(path, HEADER) as log:
        for trial in (0, 2, 1):
            log.append([line(trial)])
    return path


@pytest.fixture
def batches(tmp_path):
    """A log of two batches of three, the later one first."""
    path = tmp_path / "batches.jsonl"
    with Log(path, BATCHES) as log:
        for first in (3, 0):
            log.append([line(trial, genome={}) for trial in range(first, first + 3)])
    return path


class TestIntact:
    def test_is_read_back(self, path):
        rows = list(map(json.loads, path.read_text().splitlines()))
        assert rows == [HEADER, line(0), line(2), line(1)]
        assert rows[0] == {
            "freewire_search": 1,
            "version": fw.__version__,
            "strategy": "RandomSearch",
            "settings": {"space": {"k": [2, 4]}, "strategy_seed": 0},
            "seed": 3,
            "batch": 1,
        }
        with Log(path, HEADER) as log:
            assert log.lines == {trial: line(trial) for trial in range(3)}
            log.append([line(3)])
            assert log.lines[3] == line(3)
            assert json.loads(path.read_text().splitlines()[-1]) == line(3)  # written before the log is closed
        assert read_log(path) == (HEADER, [line(trial) for trial in (0, 2, 1, 3)])

    def test_versions_may_differ(self, path):
        with Log(path, {**HEADER, "version": "9.9"}) as log:
            assert len(log.lines) == 3
        assert read_log(path).header == HEADER

    def test_a_batch_is_one_write_to_the_disk(self, batches, monkeypatch):
        calls = []
        write, sync = os.write, os.fsync
        monkeypatch.setattr(os, "write", lambda *arguments: calls.append("write") or write(*arguments))
        monkeypatch.setattr(os, "fsync", lambda *arguments: calls.append("fsync") or sync(*arguments))
        with Log(batches, BATCHES) as log:
            log.append([line(trial) for trial in (6, 7, 8)])
        assert calls == ["write", "fsync"]

    def test_a_new_file_is_written_to_its_folder(self, tmp_path, monkeypatch):
        synced = []
        sync = os.fsync
        monkeypatch.setattr(
            os, "fsync", lambda file: synced.append(os.path.isdir(f"/proc/self/fd/{file}")) or sync(file)
        )
        with Log(tmp_path / "new.jsonl", HEADER):
            assert synced == [False, True]

    @pytest.mark.parametrize("before", [None, b"", b'{"freewire_se'])
    def test_whoever_reads_finds_a_whole_header(self, tmp_path, monkeypatch, before):
        """From the first moment at which the file has its name; one that a killed search left is replaced."""
        path = tmp_path / "new.jsonl"
        if before is not None:
            path.write_bytes(before)
        states = set()

        def watched(call, *arguments, **named):
            states.add(path.read_bytes() if path.exists() else None)
            found = call(*arguments, **named)
            states.add(path.read_bytes() if path.exists() else None)
            return found

        for name in ("open", "write", "fsync", "replace", "ftruncate"):
            monkeypatch.setattr(os, name, functools.partial(watched, getattr(os, name)))
        with Log(path, HEADER):
            monkeypatch.undo()
        assert states == {before, json.dumps(HEADER).encode() + b"\n"}
        assert sorted(os.listdir(tmp_path)) == ["new.jsonl", "new.jsonl.lock"]

    def test_an_empty_file_is_no_log(self, tmp_path):
        path = tmp_path / "empty.jsonl"
        path.touch()
        expected = r".*empty\.jsonl: expected the log of a search, got an empty file\. Choose another file"
        assert_refused(lambda: read_log(path), expected, fw.FileFormatError)

    def test_names(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with Log("here.jsonl", HEADER), pytest.raises(fw.InputError, match="in use"):
            Log(tmp_path / "here.jsonl", HEADER)
        with pytest.raises(FileNotFoundError, match=r"path: expected an existing folder, got '.*no'"):
            Log(tmp_path / "no" / "here.jsonl", HEADER)
        assert_refused(
            lambda: Log(None, HEADER), "path: expected a str, bytes or os.PathLike, got NoneType", fw.InputError
        )


class TestCut:
    def test_anywhere(self, path, monkeypatch):
        """What is not whole is dropped, and what is whole stays as it is."""
        monkeypatch.setattr(os, "fsync", lambda file: None)  # for time
        whole = path.read_bytes()
        rows = whole.splitlines(keepends=True)
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            kept = whole[: whole[:cut].rfind(b"\n") + 1] or rows[0]
            if cut >= len(rows[0]):
                assert len(read_log(path).lines) == kept.count(b"\n") - 1
            with Log(path, HEADER) as log:
                assert path.read_bytes() == kept
                assert list(log.lines) == [0, 2, 1][: kept.count(b"\n") - 1]
                log.append([line(9)])
            assert path.read_bytes() == kept + json.dumps(line(9)).encode() + b"\n"

    def test_batches(self, batches):
        whole = batches.read_bytes()
        rows = whole.splitlines(keepends=True)
        ends = [len(b"".join(rows[:count])) for count in (1, 4, 7)]
        for cut in range(ends[0], len(whole)):
            batches.write_bytes(whole[:cut])
            kept = max(end for end in ends if end <= cut)
            assert len(read_log(batches).lines) == 3 * ends.index(kept)
            with Log(batches, BATCHES) as log:
                assert list(log.lines) == [3, 4, 5][: 3 * ends.index(kept)]
            assert batches.read_bytes() == whole[:kept]

    def test_lines_taken_out_of_a_batch(self, batches):
        """The rest of it goes, too, and the trials run again."""
        rows = batches.read_bytes().splitlines(keepends=True)
        batches.write_bytes(b"".join([*rows[:2], *rows[3:]]))
        with Log(batches, BATCHES) as log:
            assert list(log.lines) == [0, 1, 2]
            log.append([line(trial, genome={}) for trial in (3, 4, 5)])
        assert batches.read_bytes().splitlines(keepends=True) == [rows[0], *rows[4:], *rows[1:4]]


class TestDamaged:
    @pytest.mark.parametrize(
        "text",
        [
            b'{"trial": 2, "par',
            b"\xff\x00",
            b"[1]",
            b"[" * 100_000,
            b'{"trial": 7}',
            b'{"trial": -1, "params": {}, "value": 1, "status": "finished", "seconds": 1}',
            b'{"trial": true, "params": {}, "value": 1, "status": "finished", "seconds": 1}',
            b'{"trial": 7, "value": 1, "status": "finished", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": null, "status": "finished", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": NaN, "status": "finished", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": 1' + b"0" * 400 + b', "status": "finished", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": "1", "status": "finished", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": 1, "status": "done", "seconds": 1}',
            b'{"trial": 7, "params": {}, "value": 1, "status": "finished"}',
        ],
        ids=lambda text: text[:90].decode(errors="replace"),
    )
    @pytest.mark.parametrize("number", [2, 4])
    def test_lines(self, path, text, number):
        """Also the last one: it has a line end, so it was complete once."""
        rows = path.read_bytes().splitlines()
        rows[number - 1] = text
        path.write_bytes(b"\n".join(rows) + b"\n")
        damaged = path.read_bytes()
        expected = rf".*search\.jsonl: expected a trial in line {number}, got '.*'\. Remove that line; its trial will"
        assert_refused(lambda: Log(path, HEADER), expected, fw.FileFormatError)
        assert_refused(lambda: read_log(path), expected, fw.FileFormatError)
        assert path.read_bytes() == damaged

    def test_blank_rows(self, path):
        """As editors leave them; the next start removes them."""
        rows = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*rows[:2], b" \n\n", *rows[2:], b"\n", b"\t\n", b" "]))
        assert read_log(path) == (HEADER, [line(0), line(2), line(1)])
        with Log(path, HEADER) as log:
            log.append([line(3)])
        assert path.read_bytes() == b"".join(rows) + json.dumps(line(3)).encode() + b"\n"

    def test_the_line_that_is_named_counts_blank_ones(self, path):
        path.write_bytes(path.read_bytes() + b"\n{}\n")
        assert_refused(lambda: read_log(path), r".*: expected a trial in line 6, got '{}", fw.FileFormatError)

    def test_repeated_trial(self, path):
        with path.open("a") as file:
            file.write(json.dumps(line(2)) + "\n")
        expected = (
            r".*search\.jsonl: expected one line per trial, got trial 2 twice, the second time in line 5\. Remove"
        )
        assert_refused(lambda: Log(path, HEADER), expected, fw.FileFormatError)

    @pytest.mark.parametrize(
        "text", ["something else", "{}\n", "[]\n", '{"freewire_search": 2}\n', '{"freewire": 1}', "\n"]
    )
    def test_other_files(self, tmp_path, text):
        path = tmp_path / "other"
        path.write_text(text)
        expected = r".*other: expected the log of a search, got a file that begins with '.*'\. Choose another file\."
        assert_refused(lambda: Log(path, HEADER), expected, fw.FileFormatError)
        assert_refused(lambda: read_log(path), expected, fw.FileFormatError)
        assert path.read_text() == text


class TestOtherSearch:
    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"seed": 4}, "with seed 4, got one with seed 3"),
            (
                {"strategy": "Evolution", "settings": {}},
                "with strategy 'Evolution', got one with strategy 'RandomSearch'",
            ),
            (
                {"settings": {"space": {"k": [2]}, "strategy_seed": 0}},
                r"with space {'k': \[2\]}, got one with space {'k': \[2, 4\]}",
            ),
            (
                {"settings": {**HEADER["settings"], "lag": 2}, "seed": 4},
                "with lag 2, seed 4, got one with lag None, seed 3",
            ),
            ({"batch": 2}, "with batch 2, got one with batch 1"),
            (
                {"settings": {"space": {"k": [2.0, 4.0]}, "strategy_seed": False}},
                r"with space {'k': \[2\.0, 4\.0\]}, strategy_seed False, got one with space {'k': \[2, 4\]}, "
                "strategy_seed 0",
            ),
        ],
    )
    def test_both_are_named(self, path, changed, expected):
        before = path.read_bytes()
        expected = rf".*search\.jsonl: expected the log of a search {expected}\. Continue that search with its own"
        assert_refused(lambda: Log(path, {**HEADER, **changed}), expected, fw.InputError)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(("one", "other"), [([0, 1], [False, True]), ([1, 2], [1.0, 2.0]), ([1], [True])])
    def test_what_python_takes_for_equal(self, tmp_path, one, other):
        path = tmp_path / "search.jsonl"
        headers = [header_of("RandomSearch", RandomSearch({"k": choices}).settings(), 0, 1) for choices in (one, other)]
        with Log(path, headers[0]):
            pass
        for first, second in (headers, headers[::-1]):
            path.write_text(json.dumps(first) + "\n")
            assert_refused(lambda second=second: Log(path, second), ".*: expected the log of a search", fw.InputError)

    def test_another_order_of_parameters(self, tmp_path):
        """It gives other draws."""
        path = tmp_path / "search.jsonl"
        spaces = {"b": (0.0, 1.0), "a": (0.0, 1.0)}, {"a": (0.0, 1.0), "b": (0.0, 1.0)}
        headers = [header_of("RandomSearch", RandomSearch(space).settings(), 0, 1) for space in spaces]
        with Log(path, headers[0]):
            pass
        expected = ".*: expected the log of a search with space in the order a, b, got one with space in the order b, a"
        assert_refused(lambda: Log(path, headers[1]), expected, fw.InputError)
        assert_refused(
            lambda: Log(path, {**headers[0], "settings": {"space": 3, "strategy_seed": 0}}),
            ".*with space 3, got one with space {'a': ",
            fw.InputError,
        )
        with Log(path, {**headers[0], "settings": dict(reversed(headers[0]["settings"].items()))}) as log:
            assert log.lines == {}  # the order of settings means nothing

    def test_settings_that_json_cannot_hold(self):
        for settings in ({"function": abs}, {"number": float("nan")}):
            assert_refused(
                lambda settings=settings: header_of("Own", settings, 0, 1),
                "strategy: expected settings that JSON can hold, got others",
                fw.InputError,
            )
        assert header_of("Own", {"pair": (1, 2)}, 0, 1)["settings"] == {"pair": [1, 2]}  # as it will be read


class TestWriting:
    def test_one_writer(self, path):
        expected = (
            r".*search\.jsonl: expected a log that is not in use, got one that another search is writing to\. Wait"
        )
        with Log(path, HEADER):
            assert_refused(lambda: Log(path, HEADER), expected, fw.InputError)
            assert len(read_log(path).lines) == 3
        with Log(path, HEADER) as log:
            assert len(log.lines) == 3

    def test_a_refused_log_is_not_locked(self, path):
        for _ in range(2):
            with pytest.raises(fw.InputError, match="seed 4"):
                Log(path, {**HEADER, "seed": 4})
        with Log(path, HEADER) as log:
            assert len(log.lines) == 3

    def test_full_disk(self, path, monkeypatch):
        """A line that does not fit is taken back, and the search is told."""
        before, write = path.read_bytes(), os.write
        with Log(path, HEADER) as log:
            with monkeypatch.context() as patch:
                patch.setattr(os, "write", lambda file, text: write(file, text[:20]))
                with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
                    log.append([line(5)])
            assert caught.value.errno == errno.ENOSPC
            assert path.read_bytes() == before
            assert 5 not in log.lines
            log.append([line(5)])
        assert len(read_log(path).lines) == 4

    def test_nan_is_refused(self, path):
        before = path.read_bytes()
        with Log(path, HEADER) as log, pytest.raises(ValueError, match="not JSON compliant"):
            log.append([line(5, value=float("nan"))])
        assert path.read_bytes() == before
