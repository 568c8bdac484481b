# SPDX-License-Identifier: MIT
"""Files that are not networks are refused, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import freewire as fw
from freewire.nn import serialization
from tests.support.messages import assert_refused
from tests.support.networks import (
    FORMAT,
    save_sample,
    write_raw,
)
from tests.support.storage import limited_memory

LACK = r".*: expected memory of several times the file's size, got less\."


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return save_sample(tmp_path_factory.mktemp("nn") / "sample")


class TestNoFile:
    """Files that are missing, cut short, or of another program."""

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"path: expected a freewire file, got .*none.*Check the path\."):
            fw.load(tmp_path / "none")

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match="path: expected a freewire file, got "):
            fw.load(tmp_path)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
    def test_a_file_that_does_not_fit_into_memory(self, tmp_path):
        (tmp_path / "net").touch()
        os.truncate(tmp_path / "net", 2**32)  # which takes no space on the disk
        with limited_memory(2**29):
            assert_refused(lambda: fw.load(tmp_path / "net"), LACK, fw.OutOfMemoryError)

    @pytest.mark.parametrize("function", ["read_tensors", "Network"])
    def test_a_lack_of_memory(self, function, sample, monkeypatch):
        def fails(*_, **__):
            raise error

        monkeypatch.setattr(serialization, function, fails)
        error = MemoryError()
        assert_refused(lambda: fw.load(sample), LACK, fw.OutOfMemoryError)
        if function == "Network":  # where torch allocates
            with pytest.raises(RuntimeError) as caught:
                torch.empty(2**50)
            error = caught.value
            assert_refused(lambda: fw.load(sample), LACK, fw.OutOfMemoryError)
            error = RuntimeError("a bug")
            with pytest.raises(RuntimeError, match=r"^a bug$"):
                fw.load(sample)

    def test_cut_short_anywhere(self, sample, tmp_path):
        whole = sample.read_bytes()
        for length in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:length])
            assert_refused(
                lambda: fw.load(tmp_path / "cut"),
                r".*cut: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )

    def test_cut_at_the_front_or_longer(self, sample, tmp_path):
        whole = sample.read_bytes()
        for changed in (whole[1:], whole[8:], whole + b"\0", whole * 2, b"\0" * len(whole), b"\xff" * 100):
            (tmp_path / "changed").write_bytes(changed)
            assert_refused(
                lambda: fw.load(tmp_path / "changed"),
                r".*changed: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )

    def test_any_flipped_byte_loads_or_is_refused(self, sample, tmp_path):
        whole = bytearray(sample.read_bytes())
        loaded, messages = 0, set()
        for position in range(len(whole)):
            for mask in (0x01, 0x80):
                whole[position] ^= mask
                (tmp_path / "flipped").write_bytes(whole)
                whole[position] ^= mask
                try:
                    net = fw.load(tmp_path / "flipped")
                except fw.FileFormatError as error:
                    messages.add(str(error).split(": ")[1][:20])
                else:
                    loaded += 1
                    assert net(torch.ones(1, len(net.graph.inputs))).shape == (1, len(net.graph.outputs))
        assert loaded >= 2 * 4 * 6  # any bits are a weight or a bias
        assert all(message.startswith("expected ") for message in messages)

    @pytest.mark.parametrize("content", [b"", b"\x80\x02}.", b"PK\x03\x04", b"# notes\n" * 50], ids=repr)
    def test_other_kinds_of_file(self, content, tmp_path):
        (tmp_path / "other").write_bytes(content)
        assert_refused(
            lambda: fw.load(tmp_path / "other"),
            r".*other: expected a whole safetensors file, got one that cannot be read ",
            fw.FileFormatError,
        )

    @pytest.mark.parametrize(
        "header",
        [
            [],
            {"weight": 1},
            {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}},
            {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
            {"weight": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
            {"weight": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
            {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
            {"weight": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}},
        ],
        ids=["list", "number", "beyond the end", "terabytes", "overflow", "negative", "backwards", "dtype"],
    )
    def test_headers_with_false_sizes(self, header, tmp_path):
        write_raw(tmp_path / "liar", header, b"\0" * 4)
        assert_refused(
            lambda: fw.load(tmp_path / "liar"),
            r".*liar: expected a whole safetensors file, got one that cannot be read ",
            fw.FileFormatError,
        )

    @pytest.mark.parametrize(
        ("metadata", "got"),
        [
            (None, None),
            ({"framework": "pt"}, None),
            ({"format": "pt"}, "'pt'"),
            ({"format": "freewire network 2"}, "'freewire network 2'"),
            ({"format": ""}, "''"),
        ],
        ids=["no metadata", "no format", "another's", "a later version", "empty"],
    )
    def test_safetensors_of_other_programs(self, metadata, got, tmp_path):
        save_file({"weight": torch.ones(3)}, tmp_path / "theirs", metadata)
        said = rf".*theirs: expected a '{FORMAT}' file, got {got}\. Load files that fw\.save wrote, "
        if got is None:
            said = (
                ".*theirs: expected a file that fw.save wrote, got a safetensors file without freewire's format entry"
            )
        assert_refused(lambda: fw.load(tmp_path / "theirs"), said, fw.FileFormatError)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class TestNothingIsRun:
    """A file is data."""

    def test_pickle_is_never_called(self, sample, monkeypatch):
        def fail(*_: Any, **__: Any) -> None:
            raise AssertionError("a file was unpickled")

        with monkeypatch.context() as patch:
            for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
                patch.setattr(module, name, fail)
            net = fw.load(sample)
        assert net.graph.inputs == ("x",)

    def test_pickles_are_refused_without_unpickling(self, tmp_path):
        bomb = {"weight": Bomb(str(tmp_path / "gone off"))}
        (tmp_path / "plain").write_bytes(pickle.dumps(bomb))
        torch.save(bomb, tmp_path / "zipped")
        for name in ("plain", "zipped"):
            assert_refused(
                lambda name=name: fw.load(tmp_path / name),
                rf".*{name}: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )
        assert not (tmp_path / "gone off").exists()
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "zipped")  # weights only: torch refuses it too
        pickle.loads((tmp_path / "plain").read_bytes())
        assert (tmp_path / "gone off").exists()  # so the test could have failed
