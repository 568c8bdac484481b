# SPDX-License-Identifier: MIT
"""The log of the wiring search, intact and damaged."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator

import pytest

import freewire as fw
from tests.support.examples import imported
from tests.support.messages import assert_refused


@pytest.fixture(scope="module")
def log_module() -> Iterator[types.ModuleType]:
    """The example's module."""
    with imported("search_log") as module:
        yield module


def result(trial: int, repeat: int = 0) -> dict:
    """A line of the log; trial 2 has failed."""
    outcome = {"failed": "GraphError: thin"} if trial == 2 else {"validation": 0.9 + 0.01 * trial}
    return {"trial": trial, "repeat": repeat, "family": "ER", "parameters": {"p": 0.2}, **outcome}


class TestLog:
    """The file, intact and damaged."""

    settings = types.MappingProxyType({"seed": 0, "epochs": 2})

    @pytest.fixture
    def path(self, log_module, tmp_path):
        """A log of three results."""
        path = tmp_path / "search.jsonl"
        with log_module.Log(path, self.settings) as log:
            for trial in (0, 2, 1):
                log.append(result(trial))
        return path

    def test_is_read_back(self, log_module, path):
        lines = list(map(json.loads, path.read_text().splitlines()))
        assert lines[0] == {"log": log_module.FORMAT, "settings": dict(self.settings)}
        assert lines[1:] == [result(0), result(2), result(1)]
        with log_module.Log(path, self.settings) as log:
            assert log.results == {(trial, 0): result(trial) for trial in range(3)}
            log.append(result(1, 1))
            assert json.loads(path.read_text().splitlines()[-1]) == result(1, 1)  # written before the log is closed
        with log_module.Log(path, self.settings) as log:
            assert len(log.results) == 4

    def test_half_written_line_is_dropped(self, log_module, path):
        """The last line may break off anywhere, even before its line end."""
        whole = path.read_bytes()
        before = whole[: whole.rindex(b"\n", 0, -1) + 1]
        for cut in range(len(before), len(whole)):
            path.write_bytes(whole[:cut])
            with log_module.Log(path, self.settings) as log:
                assert list(log.results) == [(0, 0), (2, 0)]
                assert path.read_bytes() == before
                log.append(result(1))
            assert path.read_bytes() == whole

    def test_half_written_header_is_rewritten(self, log_module, path):
        header = path.read_bytes().splitlines(keepends=True)[0]
        for cut in range(len(header)):
            path.write_bytes(header[:cut])
            with log_module.Log(path, self.settings) as log:
                assert log.results == {}
            assert path.read_bytes() == header

    @pytest.mark.parametrize("line", [b'{"trial": 2, "rep', b"", b"\xff\x00", b"[1]", b'{"trial": 2, "repeat": 0}'])
    @pytest.mark.parametrize("number", [2, 4])
    def test_corrupt_line(self, log_module, path, line, number):
        """Also if it is the last one: it has a line end, so it was complete once."""
        lines = path.read_bytes().splitlines()
        lines[number - 1] = line
        path.write_bytes(b"\n".join(lines) + b"\n")
        damaged = path.read_bytes()
        expected = rf".*search\.jsonl: expected a trial's result in line {number}, got '.*'\. Remove that line; its"
        assert_refused(lambda: log_module.Log(path, self.settings), expected, fw.FileFormatError)
        assert path.read_bytes() == damaged

    def test_nan_is_refused(self, log_module, path):
        before = path.read_bytes()
        with log_module.Log(path, self.settings) as log, pytest.raises(ValueError, match="not JSON compliant"):
            log.append({**result(3), "validation": float("nan")})
        assert path.read_bytes() == before

    def test_repeated_trial(self, log_module, path):
        with path.open("a") as file:
            file.write(json.dumps(result(2)) + "\n")
        expected = (
            r".*search\.jsonl: expected one line per trial, got trial 2, repeat 0, twice, the second time in line 5\."
        )
        assert_refused(lambda: log_module.Log(path, self.settings), expected, fw.FileFormatError)

    @pytest.mark.parametrize("text", ["something else", "{}\n", "[]\n", '{"log": "freewire wiring search, 1"}\n'])
    def test_other_file(self, log_module, tmp_path, text):
        path = tmp_path / "other"
        path.write_text(text)
        expected = r".*other: expected the log of a wiring search, got a file that begins with '.*'\. Choose another"
        assert_refused(lambda: log_module.Log(path, self.settings), expected, fw.FileFormatError)
        assert path.read_text() == text

    def test_other_settings(self, log_module, path):
        expected = r".*: expected the settings that this search was started with, seed 0, got seed 1\. Continue with"
        assert_refused(lambda: log_module.Log(path, {"seed": 1, "epochs": 2}), expected, fw.InputError)
        expected = r".*started with, epochs 2, torch None, got epochs None, torch 3\. Continue"
        assert_refused(lambda: log_module.Log(path, {"seed": 0, "torch": "3"}), expected, fw.InputError)

    def test_one_writer(self, log_module, path):
        with log_module.Log(path, self.settings):
            expected = (
                r".*search\.jsonl: expected a log that is not in use, got one that another search is writing to\. W"
            )
            assert_refused(lambda: log_module.Log(path, self.settings), expected, fw.InputError)
        log_module.Log(path, self.settings).__exit__()
