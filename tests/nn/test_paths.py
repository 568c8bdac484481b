# SPDX-License-Identifier: MIT
"""Paths of networks and graphs: all four functions accept the same and raise the same errors."""

from __future__ import annotations

import errno
import io
import os
import resource
import threading
from pathlib import Path

import pytest

import freewire as fw
from tests.support.files import edge_list
from tests.support.graphs import CASES, assert_same_graph
from tests.support.messages import assert_refused
from tests.support.networks import assert_same_network
from tests.support.storage import as_nobody, raises_os_error

READERS = {"load": fw.load, "read_graph": fw.read_graph}
WRITERS = {
    "save": lambda path: fw.save(fw.Network(CASES["random"]), path),
    "write_graph": lambda path: fw.write_graph(edge_list(CASES["random"]), path),
}
EVERY = READERS | WRITERS


@pytest.fixture(params=EVERY)
def function(request):
    return EVERY[request.param]


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


class TestArguments:
    """What is not a path is refused, with what to pass instead."""

    @pytest.mark.parametrize("path", [None, 1, True, 2.5, [], ("g.json",), iter("g")], ids=lambda p: type(p).__name__)
    def test_other_types(self, function, path):
        expected = f"path: expected a str, bytes or os.PathLike, got {type(path).__name__}. Pass the name of a file."
        assert_refused(lambda: function(path), expected, fw.InputError)

    def test_open_files(self, function, tmp_path):
        expected = r"path: expected a str, bytes or os.PathLike, got an open file\. Pass its name\. "
        with open(tmp_path / "g.json", "w+b") as file:
            for each in (file, io.BytesIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO())):
                assert_refused(lambda each=each: function(each), expected, fw.InputError)
        assert (tmp_path / "g.json").read_bytes() == b""

    @pytest.mark.parametrize("path", ["", b"", "g\0.json", b"\0.json"], ids=repr)
    def test_no_name_or_with_null(self, function, path):
        expected = "a name without null characters" if path else "the name of a file"
        assert_refused(lambda: function(path), f"path: expected {expected}, got .*Name a file", fw.InputError)

    def test_what_no_file_system_can_store(self, function):
        assert_refused(
            lambda: function("\ud800.json"), r"path: expected a name that the file system can store", fw.InputError
        )

    def test_messages_are_short(self, function):
        for path in ("x" * 3_000_000, "x" * 10**6 + "\0", "x" * 3_000_000 + ".json", "x" * 300 + ".json"):
            with pytest.raises((OSError, ValueError)) as caught:
                function(path)
            assert len(str(caught.value)) < 400
            if isinstance(caught.value, OSError):
                assert caught.value.errno == errno.ENAMETOOLONG

    @pytest.mark.parametrize(
        "name",
        ["line\nbreak.json", "\udcff.json", "x" * 250 + ".json", " .json", "-.json", b"\xff\xfe.json"],
        ids=ascii,
    )
    def test_what_is_written_is_read(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for path in (name, os.path.join(os.fsdecode(tmp_path), os.fsdecode(name)), Path(os.fsdecode(name))):
            net = fw.Network(CASES["random"])
            fw.save(net, path)
            assert_same_network(fw.load(path), net)
            fw.write_graph(CASES["diamond"], path)
            assert_same_graph(fw.read_graph(path), CASES["diamond"])
        assert len(os.listdir(tmp_path)) == 1


class TestErrors:
    """Errors of the system are OSErrors with their number."""

    def test_missing(self, reader, tmp_path):
        (tmp_path / "file").touch()
        for name in ("none.json", "none/g.json", "file/g.json"):
            with raises_os_error(errno.ENOENT, "path: expected a (freewire|graph) file, got .*, which is not a file"):
                reader(tmp_path / name)

    def test_folders(self, function, tmp_path):
        os.mkdir(tmp_path / "g.json")
        with raises_os_error(errno.EISDIR, "path: expected a .*, got .*g.json', which is a folder. Name a file in it."):
            function(tmp_path / "g.json")

    def test_devices_are_not_read(self, reader, tmp_path):
        (tmp_path / "g.json").symlink_to("/dev/zero")
        with raises_os_error(errno.EINVAL, "path: expected a .*, got .*g.json', which is a device"):
            reader(tmp_path / "g.json")

    def test_unreadable(self, reader):
        with as_nobody() as folder:
            (folder / "g.json").touch()
            (folder / "g.json").chmod(0)
            with raises_os_error(errno.EACCES):
                reader(folder / "g.json")
            os.mkdir(folder / "closed")
            (folder / "closed" / "g.json").touch()
            (folder / "closed").chmod(0)
            with raises_os_error(errno.EACCES):
                reader(folder / "closed" / "g.json")

    def test_unwritable(self, writer):
        with as_nobody() as folder:
            (folder / "g.json").touch()
            (folder / "g.json").chmod(0o444)
            with raises_os_error(errno.EACCES, "path: expected a file that may be written"):
                writer(folder / "g.json")

    @pytest.mark.parametrize("name", ["g.json", "g.csv", "g.graphml", "g.json.gz", "g.csv.gz", "g.graphml.gz"])
    def test_a_full_disk(self, name, writer, tmp_path):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # bytes; no file can grow further
        try:
            with raises_os_error(errno.EFBIG):
                writer(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert os.listdir(tmp_path) == []

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
    @pytest.mark.parametrize("name", ["g.json", "g.csv", "g.graphml", "g.csv.gz"])
    def test_a_full_device(self, name, writer, tmp_path):
        (tmp_path / name).symlink_to("/dev/full")
        with raises_os_error(errno.ENOSPC):
            writer(tmp_path / name)


class TestPipes:
    """A pipe is written to, and read to its end."""

    @pytest.mark.parametrize("name", ["g.json", "g.csv", "g.csv.gz", "g.graphml"])
    def test_graphs(self, name, tmp_path):
        os.mkfifo(tmp_path / name)
        g = fw.generators.mlp([2, 3, 2])
        thread = threading.Thread(target=fw.write_graph, args=(g, tmp_path / name))
        thread.start()
        found = fw.read_graph(tmp_path / name)
        thread.join()
        assert_same_graph(found, g)

    def test_networks(self, tmp_path):
        os.mkfifo(tmp_path / "net")
        net = fw.Network(fw.generators.mlp([30, 300, 20]))
        thread = threading.Thread(target=fw.save, args=(net, tmp_path / "net"))
        thread.start()
        found = fw.load(tmp_path / "net")
        thread.join()
        assert_same_network(found, net)
