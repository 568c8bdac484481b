# SPDX-License-Identifier: MIT
"""First use of the CUDA library: found, or built once and kept. The nvcc and the GPU are fakes."""

from __future__ import annotations

import errno
import fcntl  # filelock calls it
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from freewire._native import cuda_build, toolchain
from freewire.errors import BuildError
from freewire.ops import cuda_cache
from tests.support import tools
from tests.support.messages import assert_refused


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an nvcc for plain C++ in place; returns the file where it records its calls."""
    return tools.play_nvcc(monkeypatch, tmp_path / "bin")


@pytest.fixture
def csrc(tmp_path: Path) -> Path:
    return tools.write_sources(tmp_path / "csrc")


class TestFirstUse:
    @pytest.fixture(autouse=True)
    def machine(self, calls: Path, csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A GPU of 9.0, its driver, and an empty cache."""
        monkeypatch.setenv("FREEWIRE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(cuda_build, "source_folder", lambda: csrc)
        monkeypatch.setattr(cuda_cache, "driver_version", lambda: (13, 0))
        self.see(monkeypatch, (9, 0))

    def see(self, monkeypatch: pytest.MonkeyPatch, *gpus: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: gpus[i])

    @pytest.fixture
    def installed(self, tmp_path: Path) -> Path:
        return tmp_path / "installed" / cuda_build.LIBRARY

    def install(self, installed: Path, csrc: Path, cuda: tuple[int, int] = (13, 0), built_for: str = "9.0") -> None:
        installed.parent.mkdir(exist_ok=True)
        installed.write_text(str(cuda_build.Stamp(cuda_build.source_hash(csrc), cuda, tuple(built_for.split()))))

    def test_builds_once_and_says_so(self, installed: Path, calls: Path, capfd: pytest.CaptureFixture) -> None:
        library = cuda_cache.find_or_build(installed)
        assert library.name == "libfreewire_cuda-13.0-9.0.so"
        said = capfd.readouterr().err.splitlines()
        assert re.fullmatch(
            r"freewire: building the CUDA kernels for 9\.0 with nvcc 13\.0, once, in about a minute: .*/cache/cuda/\w+",
            said[0],
        )
        assert re.fullmatch(r"freewire: built the CUDA kernels in \d+ s", said[1])
        assert sorted(path.name for path in library.parent.iterdir()) == ["build.log", library.name, "lock"]
        calls.write_text("")
        assert cuda_cache.find_or_build(installed) == library
        assert (calls.read_text(), capfd.readouterr().err) == ("", "")

    def test_cached_one_is_used_without_nvcc(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = cuda_cache.find_or_build(installed)
        monkeypatch.setenv("CUDACXX", "gone")
        monkeypatch.setenv("FREEWIRE_CUDA", "0")
        assert cuda_cache.find_or_build(installed) == library

    def test_builds_again_for_another_gpu_and_for_other_sources(
        self, installed: Path, csrc: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = cuda_cache.find_or_build(installed)
        self.see(monkeypatch, (8, 0), (9, 0), (7, 0))  # the last is too old for any
        second = cuda_cache.find_or_build(installed)
        assert second == first.with_name("libfreewire_cuda-13.0-8.0-9.0.so")
        self.see(monkeypatch, (9, 0))
        assert cuda_cache.find_or_build(installed) in (first, second)
        (csrc / "answer.h").write_text("inline int answer() { return 42; }\n")
        assert cuda_cache.find_or_build(installed).parent != first.parent

    def test_installed_one_is_used(self, installed: Path, csrc: Path, calls: Path) -> None:
        self.install(installed, csrc)
        assert cuda_cache.find_or_build(installed) == installed
        assert calls.read_text() == ""

    @pytest.mark.parametrize(
        ("stamp", "why"),
        [
            (None, "no such file"),
            ({"cuda": (14, 1)}, "one for CUDA 14, which is too new for this driver"),
            ({"built_for": "8.0 12.0+PTX"}, r"one for 8\.0, 12\.0\+PTX, not for this GPU's compute capability 9\.0"),
            ({"sources": "other"}, "one built from other sources"),
            ({"text": "unstamped"}, "one built from other sources"),
        ],
    )
    def test_installed_one_that_does_not_fit(
        self, stamp: dict | None, why: str, installed: Path, csrc: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if stamp is not None:
            sources, text = stamp.pop("sources", None), stamp.pop("text", None)
            self.install(installed, csrc, **stamp)
            if sources or text:
                installed.write_text(text or str(cuda_build.read_stamp(installed)._replace(sources="beef")))
        with monkeypatch.context() as environment:
            environment.setenv("CUDACXX", "gone")
            expected = (
                rf"CUDA kernels: expected libfreewire_cuda\.so in {installed.parent}, got {why}, and they cannot be "
            )
            expected += (
                "built here. nvcc: expected CUDACXX to point to it, got gone, which is not a program. Install it: "
            )
            assert_refused(lambda: cuda_cache.find_or_build(installed), expected, BuildError)
        assert cuda_cache.find_or_build(installed) != installed

    def refused(self, installed: Path, expected: str) -> None:
        before = "CUDA kernels: expected .* got no such file, and they cannot be built here. "
        assert_refused(lambda: cuda_cache.find_or_build(installed), before + expected, BuildError)

    def test_forbidden(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA", "0")
        self.refused(installed, "FREEWIRE_CUDA: expected 1 or no value, .*, got 0. Unset it")

    def test_requested(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA", "1")
        assert cuda_cache.find_or_build(installed).is_file()

    def test_neither(self, installed: Path, csrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.install(installed, csrc)
        monkeypatch.setenv("FREEWIRE_CUDA", "yes")
        expected = r"FREEWIRE_CUDA: expected 1 \(.*\) or 0 \(.*\), got 'yes'. Set"
        assert_refused(lambda: cuda_cache.find_or_build(installed), expected, BuildError)

    def test_no_sources(self, installed: Path, csrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_build, "source_folder", lambda: None)
        self.refused(installed, "sources: expected .*/csrc, got none. Reinstall freewire")
        self.install(installed, csrc)
        assert cuda_cache.find_or_build(installed) == installed

    def test_no_compiler(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "gone")
        self.refused(installed, r"C\+\+ compiler: expected CXX to name one, got CXX='gone'")

    def test_no_ninja(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "ninja" else f"/bin/{name}")
        monkeypatch.setattr(toolchain, "check_compiler", lambda: "c++")
        monkeypatch.setattr(toolchain, "find_nvcc", lambda: toolchain.Nvcc("nvcc", (13, 0)))
        self.refused(installed, r"ninja: expected it in .*, got none\. Run `pip install ninja`")

    def test_driver_older_than_nvcc(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_cache, "driver_version", lambda: (12, 8))
        self.refused(installed, r"nvcc: expected CUDA 12 or older, .*, got nvcc 13\.0 \(.*\)\. Update the driver")

    @pytest.mark.parametrize("wanted", ["8.0;8.6", "9.0;Hopper"])
    def test_the_list_is_ignored_for_the_gpu_at_hand(
        self, wanted: str, installed: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", wanted)
        assert cuda_cache.find_or_build(installed).name == "libfreewire_cuda-13.0-9.0.so"
        ignored, building, _ = capfd.readouterr().err.splitlines()
        assert ignored.startswith(f"freewire: TORCH_CUDA_ARCH_LIST={wanted!r} is ignored, since torch sees a GPU here")
        assert "building the CUDA kernels for 9.0" in building

    def test_cache_cannot_be_written(self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("FREEWIRE_CACHE", str(tmp_path / "file"))
        self.refused(installed, r"FREEWIRE_CACHE: expected a folder .*, got .*, which cannot be written \(Not a dir")

    def test_does_not_compile(self, installed: Path, csrc: Path) -> None:
        (csrc / "cuda" / "kernel.cu").write_text("int kernel() { return missing; }\n")
        with pytest.raises(BuildError, match=r"got .*kernel\.cu.*missing") as caught:
            cuda_cache.find_or_build(installed)
        log = Path(re.search(r"The full output is in (\S+);", str(caught.value))[1])
        assert "FAILED" in log.read_text()
        assert {path.name for path in log.parent.iterdir()} == {"build.log", "lock"}

    def test_torch_without_cuda(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", None)
        expected = r"torch: expected one built for CUDA, got \d.*\. Install one"
        assert_refused(lambda: cuda_cache.find_or_build(installed), expected, BuildError)

    def test_gpu_too_old(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.see(monkeypatch, (7, 0))
        expected = r"GPU: expected compute capability 7\.5 \(Turing\) or newer, got an older one\. Use net\.to"
        assert_refused(lambda: cuda_cache.find_or_build(installed), expected, BuildError)

    @pytest.mark.parametrize(
        ("environment", "folder"),
        [
            ({"FREEWIRE_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
            ({"FREEWIRE_CACHE": "~/own"}, "/home/me/own"),
            ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/freewire"),
            ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/freewire"),
            ({"XDG_CACHE_HOME": "xdg"}, "/home/me/.cache/freewire"),
            ({"XDG_CACHE_HOME": "~/xdg"}, "/home/me/.cache/freewire"),
        ],
    )
    def test_cache_folder(self, environment: dict, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/me")
        for name in ("FREEWIRE_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert cuda_cache.cache_folder() == Path(folder)

    @pytest.mark.parametrize("chosen", ["", "~gone/own"])
    def test_no_home(self, chosen: str, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("FREEWIRE_CACHE", chosen)
        monkeypatch.setitem(sys.modules, "pwd", None)  # no list of users
        folder = chosen or "~/.cache/freewire"
        self.refused(
            installed, rf"FREEWIRE_CACHE: expected a folder .*, got {folder}, whose home folder is unknown\. Set"
        )

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    @pytest.mark.parametrize("waits", [False, True])
    def test_no_locks(self, number: int, waits: bool, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file system without locks: refused, not replaced by a lock that outlives a killed process."""
        numbers = iter([errno.EAGAIN, number] if waits else [number])

        def flock(file: object, how: int) -> None:
            found = next(numbers)
            raise OSError(found, os.strerror(found))

        monkeypatch.setattr(fcntl, "flock", flock)
        expected = rf"FREEWIRE_CACHE: .*, got .*, which cannot be locked \({os.strerror(number)}\)\. Set FREEWIRE_CACHE"
        self.refused(installed, expected)
        assert next(numbers, None) is None

    def test_lock_cannot_be_written(self, installed: Path) -> None:
        folder = cuda_cache.find_or_build(installed).parent
        next(folder.glob("*.so")).unlink()
        (folder / "lock").unlink()
        (folder / "lock").mkdir()
        self.refused(installed, rf"FREEWIRE_CACHE: .*, got {folder}, which cannot be written \(Is a directory\)\. Set")

    def test_waiting_is_said_once(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = cuda_cache.find_or_build(installed)
        library.unlink()
        held, let_go, said = threading.Event(), threading.Event(), list[str]()

        def hold() -> None:
            with FileLock(library.with_name("lock")):
                held.set()
                let_go.wait(60)

        def say(what: str) -> None:
            said.append(what.partition(" the CUDA")[0])
            threading.Timer(0.3, let_go.set).start()  # some attempts to lock later

        monkeypatch.setattr(cuda_cache, "_say", say)
        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(60)
        assert cuda_cache.find_or_build(installed) == library
        holder.join()
        assert said == ["waiting for another process, which builds", "building", "built"]

    def test_others_cannot_write_what_it_makes(
        self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CACHE", str(tmp_path / "new" / "cache"))
        umask = os.umask(0o002)
        try:
            library = cuda_cache.find_or_build(installed)
        finally:
            os.umask(umask)
        assert library.stat().st_mode & 0o777 == 0o755
        made = library.parents[:4]
        assert made[-1] == tmp_path / "new"
        assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 4
        assert cuda_cache.find_or_build(installed) == library

    #: How far above the library something is: the library itself, its folder, `cuda`, the cache.
    LAYERS = pytest.mark.parametrize("above", [0, 1, 2, 3])

    @LAYERS
    @pytest.mark.parametrize("right", [0o020, 0o002])
    def test_what_others_may_write_is_refused(self, above: int, right: int, installed: Path) -> None:
        library = cuda_cache.find_or_build(installed)
        place = [library, *library.parents][above]
        mode = place.stat().st_mode & 0o777
        place.chmod(mode | right)
        expected = (
            rf"FREEWIRE_CACHE: expected a folder that only you can write to, got {place}, which others may write "
        )
        expected += rf"to \(mode {mode | right:04o}\)\. Set FREEWIRE_CACHE to a folder of your own"
        self.refused(installed, expected)
        place.chmod(mode)
        assert cuda_cache.find_or_build(installed) == library

    @LAYERS
    def test_what_belongs_to_another_user_is_refused(
        self, above: int, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = cuda_cache.find_or_build(installed)
        place = [library, *library.parents][above]
        self.belongs(monkeypatch, place, 4321)
        self.refused(installed, f"FREEWIRE_CACHE: .* only you .*, got {place}, which belongs to user 4321. Set")

    def test_what_belongs_to_root_is_accepted(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = cuda_cache.find_or_build(installed)
        for place in (library, *library.parents[:3]):
            self.belongs(monkeypatch, place, 0)
        monkeypatch.setattr(os, "geteuid", lambda: 4321)
        assert cuda_cache.find_or_build(installed) == library

    def belongs(self, monkeypatch: pytest.MonkeyPatch, place: Path, user: int) -> None:
        """Pretend that a file belongs to some user; really changing the owner takes root."""
        real = Path.stat

        def fake(path: Path, **options: bool) -> os.stat_result:
            found = real(path, **options)
            return os.stat_result((*found[:4], user, *found[5:])) if path == place else found

        monkeypatch.setattr(Path, "stat", fake)

    def test_nothing_is_written_where_others_may_write(self, installed: Path, tmp_path: Path, calls: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        self.refused(installed, r"FREEWIRE_CACHE: .*/cache, which others may write to \(mode 0777\)\. Set")
        assert (list((tmp_path / "cache").iterdir()), calls.read_text()) == ([], "")

    def test_made_writable_while_it_waited(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`_build` checks once more, since `_cached` may have found no folder yet."""
        library = cuda_cache.find_or_build(installed)
        library.parent.chmod(0o770)
        monkeypatch.setattr(cuda_cache, "_cached", lambda folder, wanted: None)
        self.refused(installed, r"FREEWIRE_CACHE: .*, which others may write to \(mode 0770\)\. Set")


# Finds or builds in a process of its own, with the same fakes as the fixtures above.
FIRST_USE = """
import sys, torch
from pathlib import Path
from freewire._native import cuda_build
from freewire.ops import cuda_cache
torch.version.cuda = "13.0"
cuda_build.source_folder = lambda: Path(sys.argv[1])
cuda_build.visible_gpus = lambda: [(9, 0)]
cuda_cache.driver_version = lambda: None
print(cuda_cache.find_or_build(Path("gone")), flush=True)
"""


@pytest.mark.slow
class TestManyProcesses:
    def start(self, csrc: Path, tmp_path: Path) -> subprocess.Popen:
        environment = {**os.environ, "FREEWIRE_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", FIRST_USE, str(csrc)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    def test_one_builds(self, calls: Path, csrc: Path, tmp_path: Path) -> None:
        tools.write_nvcc(calls.parent, then="time.sleep(1)")
        started = [self.start(csrc, tmp_path) for _ in range(2)]
        said = [process.communicate(timeout=60) for process in started]
        assert [process.returncode for process in started] == [0, 0], said
        assert said[0][0] == said[1][0]
        assert [line.split()[0] for line in calls.read_text().splitlines()] == ["compile", "link"]
        assert sorted("building" in err for _, err in said) == [False, True]

    def test_killed_and_started_again(self, calls: Path, csrc: Path, tmp_path: Path) -> None:
        tools.write_nvcc(calls.parent, then="time.sleep(600)")
        first = self.start(csrc, tmp_path)
        while not calls.read_text():
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        assert list(tmp_path.glob("cache/cuda/*/work-*"))
        tools.write_nvcc(calls.parent)
        second = self.start(csrc, tmp_path)
        out, err = second.communicate(timeout=60)
        assert second.returncode == 0, err
        assert Path(out.strip()).is_file()
        assert not list(tmp_path.glob("cache/cuda/*/work-*"))
