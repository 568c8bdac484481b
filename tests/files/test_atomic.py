# SPDX-License-Identifier: MIT
"""`replacing`: where it writes, what it keeps of the old file, and what it does about devices, pipes and links."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from freewire.files import replacing
from tests.support.storage import as_nobody, raises_os_error

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


def put(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


def put_and_raise(path, error):
    with replacing(path) as file:
        file.write(b"x" * 10**5)
        raise error


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


class TestFiles:
    """Ordinary files."""

    def test_new_and_old(self, tmp_path):
        for content in (b"one", b"", b"x" * 10**6):
            put(tmp_path / "f", content)
            assert (tmp_path / "f").read_bytes() == content
        assert os.listdir(tmp_path) == ["f"]

    def test_anothers_file_in_a_sticky_folder(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(PermissionError, match=r"^.Errno 1. Operation not permitted$"):
            put(tmp_path / "f")
        os.chmod(tmp_path, 0o1777)
        said = "path: expected a file of your own in a folder with the sticky bit, got '.*f'. Choose another name."
        with pytest.raises(PermissionError, match=said) as caught:
            put(tmp_path / "f")
        assert caught.value.errno == errno.EPERM
        assert list(tmp_path.iterdir()) == []

    def test_an_error_keeps_the_old_file(self, tmp_path):
        put(tmp_path / "f", b"old")
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error):
                put_and_raise(tmp_path / "f", error)
        assert os.listdir(tmp_path) == ["f"]
        assert (tmp_path / "f").read_bytes() == b"old"

    def test_on_the_disk_before_it_is_renamed(self, tmp_path, monkeypatch):
        done = []
        kinds = {True: "folder", False: "file"}
        monkeypatch.setattr(os, "fsync", lambda fd: done.append(kinds[stat.S_ISDIR(os.fstat(fd).st_mode)]))
        replace = os.replace
        monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names)))
        put(tmp_path / "f")
        assert done == ["file", "rename", "folder"]

    def test_names(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        names = ["a b", "-", ".hidden", "line\nbreak", "\N{SNOWMAN}", "x" * 255, "\N{SNOWMAN}" * 85]
        if sys.platform == "linux":  # macOS has names in UTF-8 alone
            names += ["\udcff", os.fsdecode(b"\xff\xfe")]
        for name in (
            *names,
            *map(os.fsencode, names[:1]),
            tmp_path / "path",
            os.fsencode(tmp_path / "bytes"),
            f"{tmp_path}/../{tmp_path.name}/up",
        ):
            put(name)
            assert Path(os.fsdecode(name)).read_bytes() == b"new"
        assert len(os.listdir(tmp_path)) == len(names) + 3
        with raises_os_error(errno.ENAMETOOLONG):
            put("x" * 256)

    def test_the_folder_of_the_process_may_change_meanwhile(self, tmp_path, monkeypatch):
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path)
        with replacing("f") as file:
            file.write(b"new")
            os.chdir("other")
        assert (tmp_path / "f").read_bytes() == b"new"
        assert sorted(os.listdir(tmp_path)) == ["f", "other"]
        assert os.listdir(tmp_path / "other") == []

    def test_above_a_linked_folder(self, tmp_path, monkeypatch):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "short").symlink_to("a/b")
        monkeypatch.chdir(tmp_path)
        put("short/../f")
        assert (tmp_path / "a" / "f").read_bytes() == b"new"

    def test_a_removed_folder(self, tmp_path, monkeypatch):
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with raises_os_error(errno.ENOENT, "path: expected an existing folder, got '[.]'"):
            put("f")

    def test_folders(self, tmp_path):
        with raises_os_error(errno.EISDIR, "path: expected a file to write, got .*, which is a folder"):
            put(tmp_path)
        (tmp_path / "file").touch()
        for missing in ("none/f", "none/", "file/f"):
            with raises_os_error(errno.ENOENT, "path: expected an existing folder, got "):
                put(f"{tmp_path}/{missing}")
        assert os.listdir(tmp_path) == ["file"]


class TestPermissions:
    """Modes, owners and groups."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
    def test_new_files_have_those_of_any_new_file(self, umask, tmp_path):
        before = os.umask(umask)
        try:
            put(tmp_path / "f")
        finally:
            os.umask(before)
        assert mode(tmp_path / "f") == 0o666 & ~umask

    @pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o666, 0o755])
    def test_old_files_keep_theirs(self, kept, tmp_path):
        (tmp_path / "f").touch()
        (tmp_path / "f").chmod(kept)
        with replacing(tmp_path / "f") as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == kept  # before the first byte is written
        assert mode(tmp_path / "f") == kept

    @ROOT
    def test_owner_and_group(self, tmp_path):
        (tmp_path / "f").touch()
        os.chown(tmp_path / "f", 1234, 1235)
        (tmp_path / "f").chmod(0o640)
        put(tmp_path / "f")
        status = os.stat(tmp_path / "f")
        assert (status.st_uid, status.st_gid, mode(tmp_path / "f")) == (1234, 1235, 0o640)

    @ROOT
    @pytest.mark.parametrize(("old", "new"), [(0o660, 0o600), (0o664, 0o644), (0o666, 0o666)], ids=oct)
    def test_another_group_gets_no_more_than_everybody(self, old, new, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EPERM, "refused")

        (tmp_path / "f").touch()
        os.chown(tmp_path / "f", 1234, 1235)
        (tmp_path / "f").chmod(old)
        monkeypatch.setattr(os, "fchown", refuse)
        put(tmp_path / "f")
        assert mode(tmp_path / "f") == new

    def test_read_only_files_are_not_replaced(self):
        with as_nobody() as folder:
            put(folder / "f", b"old")
            (folder / "f").chmod(0o444)
            with raises_os_error(
                errno.EACCES, "path: expected a file that may be written, got .*f', which is read-only"
            ):
                put(folder / "f")
            assert (folder / "f").read_bytes() == b"old"
            assert os.listdir(folder) == ["f"]

    def test_read_only_folders(self):
        with as_nobody() as folder:
            os.mkdir(folder / "locked")
            put(folder / "locked" / "f", b"old")
            (folder / "locked").chmod(0o555)
            with raises_os_error(errno.EACCES, "path: expected a folder in which files may be created, got .*locked'"):
                put(folder / "locked" / "f")
            assert (folder / "locked" / "f").read_bytes() == b"old"
            (folder / "locked").chmod(0o755)


class TestLinks:
    """Symbolic links."""

    def test_are_followed(self, tmp_path):
        (tmp_path / "deep").mkdir()
        put(tmp_path / "deep" / "f", b"old")
        (tmp_path / "near").symlink_to("deep/f")
        (tmp_path / "deep" / "far").symlink_to("../near")
        (tmp_path / "absolute").symlink_to(tmp_path / "deep" / "far")
        for link in ("near", "deep/far", "absolute"):
            put(tmp_path / link, link.encode())
            assert (tmp_path / "deep" / "f").read_bytes() == link.encode()
            assert (tmp_path / link).is_symlink()
        assert sorted(os.listdir(tmp_path / "deep")) == ["f", "far"]

    def test_in_a_linked_folder(self, tmp_path):
        """A link's ".." is the parent of the folder that holds the link, not of the link to that folder."""
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "short").symlink_to("a/b")
        (tmp_path / "a" / "b" / "link").symlink_to("../f")
        put(tmp_path / "short" / "link")
        assert (tmp_path / "a" / "f").read_bytes() == b"new"

    def test_to_nothing_yet(self, tmp_path):
        (tmp_path / "link").symlink_to("f")
        put(tmp_path / "link")
        assert (tmp_path / "f").read_bytes() == b"new"
        assert (tmp_path / "link").is_symlink()
        (tmp_path / "lost").symlink_to("none/f")
        with raises_os_error(errno.ENOENT, "path: expected an existing folder, got .*none'"):
            put(tmp_path / "lost")

    def test_loops(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with raises_os_error(errno.ELOOP):
            put(tmp_path / "a")
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    @pytest.mark.parametrize("to", ["mine", "nothing yet"])
    @pytest.mark.parametrize("call", ["lstat", "stat"])
    def test_a_file_that_becomes_a_link_is_not_followed(self, to, call, tmp_path, monkeypatch):
        """In a folder that others may write to, they chose which file was overwritten."""
        (tmp_path / "mine").write_bytes(b"old")
        (tmp_path / "theirs").touch()
        original = getattr(os, call)

        def swap_after(path, **options):
            status = original(path, **options)
            if os.path.basename(path) == "theirs":
                monkeypatch.undo()
                os.unlink(tmp_path / "theirs")
                (tmp_path / "theirs").symlink_to(to)
            return status

        monkeypatch.setattr(os, call, swap_after)
        put(tmp_path / "theirs")
        monkeypatch.undo()
        assert (tmp_path / "mine").read_bytes() == b"old"
        assert (tmp_path / "theirs").read_bytes() == b"new"
        assert sorted(os.listdir(tmp_path)) == ["mine", "theirs"]

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc/self/fd, which Linux has")
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            *(("theirs", after) for after in ("mine", "nothing yet", "/proc/self/fd/%d")),
            *(("nothing", after) for after in ("mine", "/proc/self/fd/%d")),
        ],
    )
    def test_a_link_that_changes_is_refused(self, before, after, tmp_path, monkeypatch):
        for name in ("mine", "theirs"):
            (tmp_path / name).write_bytes(b"old")
        (tmp_path / "link").symlink_to(before)
        original = os.stat

        def swap_after(path, **options):
            try:
                return original(path, **options)
            finally:
                if os.path.basename(path) == "link":
                    monkeypatch.undo()
                    os.unlink(tmp_path / "link")
                    (tmp_path / "link").symlink_to(after % number if "%" in after else after)

        number = os.open(tmp_path / "mine", os.O_RDWR)
        try:
            monkeypatch.setattr(os, "stat", swap_after)
            with raises_os_error(errno.EAGAIN, "path: expected links that stay as they were, got .*link'"):
                put(tmp_path / "link")
        finally:
            os.close(number)
        assert (tmp_path / "mine").read_bytes() == (tmp_path / "theirs").read_bytes() == b"old"
        assert sorted(os.listdir(tmp_path)) == ["link", "mine", "theirs"]

    def test_to_a_folder(self, tmp_path):
        (tmp_path / "link").symlink_to(".")
        with raises_os_error(errno.EISDIR):
            put(tmp_path / "link")


class TestDevicesAndPipes:
    """What is not a regular file is written to."""

    def test_null(self, tmp_path):
        put("/dev/null")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        (tmp_path / "link").symlink_to("/dev/null")
        put(tmp_path / "link")
        assert stat.S_ISCHR(os.stat(tmp_path / "link").st_mode)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
    @pytest.mark.parametrize("size", [3, 10**6])
    def test_full(self, size):
        with raises_os_error(errno.ENOSPC):
            put("/dev/full", b"x" * size)
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)

    def test_a_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        got = []
        reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        put(tmp_path / "pipe", b"x" * 10**6)
        reader.join()
        assert got == [b"x" * 10**6]
        assert os.listdir(tmp_path) == ["pipe"]
        assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc/self/fd, which Linux has")
    def test_open_files(self, tmp_path):
        ends = os.pipe()
        put(f"/dev/fd/{ends[1]}", b"text")
        assert os.read(ends[0], 10) == b"text"
        list(map(os.close, ends))
        file = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
        try:
            os.unlink(tmp_path / "f")  # open, without a name
            put(f"/dev/fd/{file}")
            assert os.pread(file, 10, 0) == b"new"
            put(f"/dev/fd/{file}", b"er")  # as a log to which standard output is appended
            assert os.pread(file, 10, 0) == b"newer"
            assert os.listdir(tmp_path) == []
        finally:
            os.close(file)
