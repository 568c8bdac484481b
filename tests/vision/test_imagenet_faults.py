# SPDX-License-Identifier: MIT
"""What goes wrong while images are loaded for examples/imagenet/: unreadable images, workers that are killed."""

from __future__ import annotations

import os
import signal
import struct
import zlib

import pytest
import torch
from PIL import Image

from tests.vision.imagenet import SIZE, add, batches, encoded, pixels, same, samples

pytestmark = [
    # From Python 3.12 on, forking from a process that has threads is worth a warning, and torch forks its workers.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes:UserWarning"),
]


def bomb() -> bytes:
    """A PNG whose header promises 20,000 x 20,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, b"IDAT")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class TestUnreadable:
    @pytest.fixture
    def broken(self, lib, folder) -> tuple[object, dict[str, str]]:
        """A source with six broken images of twelve, and the reasons by name."""
        jpeg, png = (encoded(Image.fromarray(pixels(5)), kind) for kind in ("jpeg", "png"))
        said = {
            add(folder / "a" / "1.jpg", jpeg[: len(jpeg) // 2]): "OSError: image file is truncated",
            add(folder / "b" / "0.jpg", b"a text"): "not an image, or of an unknown format",
            add(folder / "b" / "1.jpg", b""): "not an image, or of an unknown format",
            add(folder / "b" / "2.jpg", bomb()): "DecompressionBombError: Image size (400000000 pixels) exceeds",
            add(folder / "b" / "3.jpg", png[:60] + b"\0" * 20 + png[80:]): "",
            folder / "c" / "3.jpg": "No such file or directory",
        }
        source = lib.sources.open_source(folder)
        (folder / "c" / "3.jpg").unlink()
        return source, {str(path): reason for path, reason in said.items()}

    def check(self, reports: list, said: dict[str, str]) -> None:
        assert {report.name for report in reports} == set(said)
        for report in reports:
            assert report.reason.startswith(said[report.name]), report
            assert 0 < len(report.reason) <= 120

    def test_left_out(self, lib, broken):
        source, said = broken
        dataset = lib.images.Images(source, lib.images.val_transform(SIZE), seed=0, replace=False)
        order = samples(lib)
        batch = lib.images.collate([dataset[sample] for sample in order])
        assert len(batch.images) == len(batch.labels) == 6
        self.check(batch.unreadable, said)
        assert len(batch.unreadable) == 6
        good = [sample for sample in order if source.name(sample.index) not in said]
        assert batch.labels.tolist() == [int(source.labels[sample.index]) for sample in good]
        assert all(torch.equal(dataset[s].image, image) for s, image in zip(good, batch.images, strict=True))

    def test_all_left_out(self, lib, broken):
        source, said = broken
        dataset = lib.images.Images(source, lib.images.val_transform(SIZE), seed=0, replace=False)
        bad = [index for index in range(12) if source.name(index) in said]
        batch = lib.images.collate([dataset[lib.order.Sample(0, index)] for index in bad])
        assert batch.images.shape == (0, 3, SIZE, SIZE)
        assert (batch.images.dtype, batch.labels.dtype, batch.labels.shape) == (torch.float32, torch.int64, (0,))
        self.check(batch.unreadable, said)

    def test_replaced(self, lib, broken):
        """Others take their places, the same for any number of workers, and not the same in every epoch."""
        source, said = broken
        dataset = lib.images.Images(source, lib.images.train_transform(SIZE), seed=0, replace=True)
        order = [*samples(lib), *samples(lib, epoch=3)]
        here, there = (list(lib.images.make_loader(dataset, batches(order, 8), workers)) for workers in (0, 2))
        assert same(here, there)
        assert [batch.unreadable for batch in here] == [batch.unreadable for batch in there]
        assert [len(batch.images) for batch in here] == [8, 8, 8]
        self.check([report for batch in here for report in batch.unreadable], said)
        labels = torch.cat([batch.labels for batch in here]).tolist()
        bad = [place for place, sample in enumerate(order[:12]) if source.name(sample.index) in said]
        places = {place: order.index(lib.order.Sample(3, order[place].index)) for place in bad}
        assert [labels[place] for place in bad] != [labels[places[place]] for place in bad]
        for place, sample in enumerate(order):
            if source.name(sample.index) not in said:
                assert labels[place] == source.labels[sample.index]

    def test_the_label_is_that_of_the_replacement(self, lib, broken):
        source, said = broken
        dataset = lib.images.Images(source, lib.images.val_transform(SIZE), seed=0, replace=True)
        pictures = {
            dataset[lib.order.Sample(0, i)].image.numpy().tobytes(): int(source.labels[i])
            for i in range(12)
            if source.name(i) not in said
        }
        for index in range(12):
            item = dataset[lib.order.Sample(0, index)]
            assert pictures[item.image.numpy().tobytes()] == item.label

    def test_nothing_can_be_read(self, lib, dataset):
        def fail(index):
            raise OSError(5, "Input/output error")

        dataset.source.read = fail
        item = dataset[lib.order.Sample(0, 0)]
        assert item.label is None
        assert [report.reason for report in item.unreadable] == ["Input/output error"] * lib.images.ATTEMPTS


class TestWorkers:
    def test_killed(self, lib, dataset, monkeypatch):
        """With finished batches still to fetch. It is found in the loop, and by no signal handler later on."""
        # torch installs its handler once in a process, and another test may have had it do so
        monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)
        item = dataset[lib.order.Sample(0, 0)]

        class Deadly:
            def __getitem__(self, sample):
                if sample.index == 9:
                    os.kill(os.getpid(), signal.SIGKILL)
                return item

        before = signal.getsignal(signal.SIGCHLD)
        loader = lib.images.make_loader(Deadly(), [[lib.order.Sample(0, index)] for index in range(40)], 1)
        with pytest.raises(lib.images.WorkerError, match=r"images was killed or has crashed\. .* fewer --workers"):
            list(loader)
        assert signal.getsignal(signal.SIGCHLD) is before

    @pytest.mark.parametrize(
        ("error", "is_death"),
        [
            (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), True),
            (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), True),
            (ConnectionResetError(104, "Connection reset by peer"), True),
            (EOFError(), True),
            (RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback"), False),
            (FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.\nOriginal"), False),
            (RuntimeError("shapes differ"), False),
        ],
    )
    def test_which_errors(self, lib, dataset, error, is_death):
        def batches():
            yield 1
            raise error

        explained = lib.images.make_loader(dataset, [], 0)._explained(batches())
        assert next(explained) == 1
        with pytest.raises(lib.images.WorkerError if is_death else type(error)) as caught:
            next(explained)
        assert (caught.value.__cause__ if is_death else caught.value) is error
