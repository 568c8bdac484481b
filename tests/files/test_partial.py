# SPDX-License-Identifier: MIT
"""Partial files: their names, their locks, and which of them a save removes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time

import pytest

from freewire.files import partial, replacing
from tests.support.storage import raises_os_error


def put(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


def partials(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith(".partial"))


@pytest.fixture
def left(tmp_path):
    """Make a file of the name and contents that a killed save of ``f`` leaves behind."""

    def left(age=0.0, kernel=None, target="f"):
        kernel = kernel or partial._kernel()
        name = f"{partial._prefix(target)}{kernel}-{len(partials(tmp_path)):016x}.partial"
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
        return name

    return left


@contextlib.contextmanager
def locked(path):
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


class TestStale:
    """What killed saves have left."""

    def test_is_removed(self, tmp_path, left):
        left()
        left()
        put(tmp_path / "f")
        assert os.listdir(tmp_path) == ["f"]

    def test_is_removed_though_the_save_fails(self, tmp_path, left):
        left()
        with pytest.raises(TypeError):
            put(tmp_path / "f", None)
        assert os.listdir(tmp_path) == []

    def test_is_removed_where_a_link_leads(self, tmp_path, left):
        left()
        (tmp_path / "link").symlink_to("f")
        put(tmp_path / "link")
        assert partials(tmp_path) == []

    def test_of_other_targets_stays(self, tmp_path, left):
        name = left(age=1e6, target="g")
        (tmp_path / "mine.partial").touch()
        put(tmp_path / "f")
        assert partials(tmp_path) == sorted([name, "mine.partial"])

    def test_of_a_living_writer_stays(self, tmp_path, left):
        name = left(age=1e6)
        with locked(tmp_path / name):
            put(tmp_path / "f")
            assert partials(tmp_path) == [name]
        put(tmp_path / "f")
        assert partials(tmp_path) == []

    def test_of_another_kernel_stays_for_a_day(self, tmp_path, left):
        """Locks of another machine may not be seen here."""
        name = left(kernel="0" * 16)
        left(kernel="1" * 16, age=25 * 3600)
        put(tmp_path / "f")
        assert partials(tmp_path) == [name]

    @pytest.mark.parametrize("why", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP], ids=os.strerror)
    def test_without_locks_stays_for_a_day(self, why, tmp_path, left, monkeypatch):
        def fail(*_):
            raise OSError(why, os.strerror(why))

        name = left()
        left(age=25 * 3600)
        monkeypatch.setattr(fcntl, "flock", fail)
        put(tmp_path / "f")
        assert partials(tmp_path) == [name]
        monkeypatch.setattr(partial, "can_lock", lambda: False)  # Windows
        put(tmp_path / "f", b"again")
        assert partials(tmp_path) == [name]
        assert (tmp_path / "f").read_bytes() == b"again"

    def test_where_the_kernel_has_no_name_stays_for_a_day(self, tmp_path, left, monkeypatch):
        monkeypatch.setattr(partial, "_kernel", lambda: None)
        name = left(kernel="unknown")
        left(kernel="unknown", age=25 * 3600)
        put(tmp_path / "f")
        assert partials(tmp_path) == [name]

    def test_pipes_folders_and_links_stay(self, tmp_path, left):
        for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(tmp_path / "victim", path)):
            name = left(age=1e6)
            os.unlink(tmp_path / name)
            make(tmp_path / name)
        (tmp_path / "victim").write_bytes(b"kept")
        before = partials(tmp_path)
        put(tmp_path / "f")
        assert len(before) == 3
        assert partials(tmp_path) == before
        assert (tmp_path / "victim").read_bytes() == b"kept"


class TestWriters:
    """A writer's own partial file."""

    def test_is_locked_until_it_is_renamed(self, tmp_path):
        with replacing(tmp_path / "f") as file:
            file.write(b"first")
            (name,) = partials(tmp_path)
            with pytest.raises(BlockingIOError), locked(tmp_path / name):
                pass
            put(tmp_path / "f", b"second")  # by another, at once
            assert partials(tmp_path) == [name]
            assert (tmp_path / "f").read_bytes() == b"second"
        assert (tmp_path / "f").read_bytes() == b"first"
        assert partials(tmp_path) == []

    @pytest.mark.parametrize("taken", [1, 5])
    @pytest.mark.parametrize("removed", [True, False], ids=["removed", "locked"])
    def test_is_made_again_if_another_save_takes_it(self, removed, taken, tmp_path, monkeypatch):
        """Between creating and locking it, another save may take it for one that a killed save has left."""
        real, calls = partial._try_lock, []

        def lock_late(number):
            calls.append(partials(tmp_path))
            if len(calls) > taken:
                return real(number)
            for name in partials(tmp_path):
                os.unlink(tmp_path / name)
            return real(number) if removed else False

        monkeypatch.setattr(partial, "_try_lock", lock_late)
        put(tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["f"]
        assert len({*map(tuple, calls)}) == taken + 1  # another name each time

    def test_gives_up_if_all_are_taken(self, tmp_path, monkeypatch):
        monkeypatch.setattr(partial, "_try_lock", lambda _: False)
        with raises_os_error(errno.EAGAIN, "path: expected to lock a new file in "):
            put(tmp_path / "f")
        assert os.listdir(tmp_path) == []

    def test_never_opens_what_is_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(partial.secrets, "token_hex", lambda _: "guessed")
        name = f"{partial._prefix('f')}{partial._kernel()}-guessed.partial"
        (tmp_path / "victim").write_bytes(b"kept")
        (tmp_path / name).symlink_to(tmp_path / "victim")
        with raises_os_error(errno.EEXIST):
            put(tmp_path / "f")
        assert (tmp_path / "victim").read_bytes() == b"kept"
        assert sorted(os.listdir(tmp_path)) == sorted(["victim", name])

    def test_names_are_short_and_differ(self, tmp_path):
        for target in ("f", "x" * 255):
            with replacing(tmp_path / target), replacing(tmp_path / target):
                names = partials(tmp_path)
                assert len({*names}) == 2
                assert all(len(name) < 80 for name in names)

    def test_many_at_once(self, tmp_path):
        """Threads that create, clean up and rename at once: each save succeeds, and every read is whole."""
        contents = [bytes([k]) * 50_000 for k in range(4)]
        errors = []

        def work(k):
            try:
                for _ in range(25):
                    put(tmp_path / "f", contents[k])
                    assert (tmp_path / "f").read_bytes() in contents
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert os.listdir(tmp_path) == ["f"]
