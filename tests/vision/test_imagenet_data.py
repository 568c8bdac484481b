# SPDX-License-Identifier: MIT
"""The images of examples/imagenet/: class folders, decoding, augmentation, unreadable files, loading by workers."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import random
import re
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from freewire.errors import InputError
from tests.support.examples import imported

pytestmark = [
    # From Python 3.12 on, forking from a process that has threads is worth a warning, and torch forks its workers.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes:UserWarning"),
]
SIZE = 24


@pytest.fixture(scope="module")
def lib():
    """The modules by name."""
    with imported("imagenet/images") as images:

        class Modules:
            def __getattr__(self, name):
                return images if name == "images" else importlib.import_module(name)

        yield Modules()


def pixels(seed: int, shape: tuple[int, ...] = (30, 40, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "jpeg", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def add(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes of 4, 3 and 5 images, one of them in a folder within, and a file that is no image."""
    place = tmp_path / "train"
    for label, count in enumerate((4, 3, 5)):
        for number in range(count):
            name = "more/0.PNG" if (label, number) == (1, 0) else f"{number}.jpg"
            image = Image.fromarray(pixels(10 * label + number))
            add(place / "cab"[label] / name, encoded(image, "png" if name.endswith("PNG") else "jpeg"))
    add(place / "a" / "notes.txt", b"not an image")
    return place


@pytest.fixture
def dataset(lib, folder):
    return lib.images.Images(lib.sources.open_source(folder), lib.images.train_transform(SIZE), seed=3, replace=True)


def samples(lib, count: int = 12, epoch: int = 2) -> list:
    order = np.random.default_rng(0).permutation(count).tolist()
    return [lib.order.Sample(epoch, index) for index in order]


def batches(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def same(a: list, b: list) -> bool:
    return all(torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in zip(a, b, strict=True))


class TestFolders:
    def test_matches_torchvision(self, lib, folder):
        source, theirs = lib.sources.open_source(folder), ImageFolder(folder)
        assert source.classes == tuple(theirs.classes) == ("a", "b", "c")
        assert source.labels.tolist() == theirs.targets == [0] * 3 + [1] * 5 + [2] * 4
        assert source.labels.dtype == np.int64
        assert [source.name(i) for i in range(len(source))] == [path for path, _ in theirs.samples]
        assert [source.read(i) for i in range(len(source))] == [Path(path).read_bytes() for path, _ in theirs.samples]
        assert source.name(2) == str(folder / "a" / "more" / "0.PNG")

    def test_holds_no_python_object_per_image(self, lib, folder):
        objects = [value for value in vars(lib.sources.open_source(folder)).values() if isinstance(value, list | dict)]
        assert objects == []

    def test_names_of_any_bytes(self, lib, tmp_path):
        names = ["\N{SNOWMAN}.jpg", os.fsdecode(b"\xff.jpg")]
        for name in names:
            add(tmp_path / "a" / name, b"data")
        source = lib.sources.open_source(tmp_path)
        assert {os.path.basename(source.name(i)) for i in range(2)} == set(names)
        assert [source.read(i) for i in range(2)] == [b"data"] * 2

    def test_a_missing_folder(self, lib, tmp_path):
        with pytest.raises(InputError, match=r"none': expected a folder or shards, got nothing there\. Check the path"):
            lib.sources.open_source(tmp_path / "none")

    def test_no_class_folders(self, lib, tmp_path):
        add(tmp_path / "0.jpg", b"")
        with pytest.raises(InputError, match=r"expected a folder for each class, or shards \(\.tar\), got neither"):
            lib.sources.open_source(tmp_path)

    def test_empty_classes(self, lib, folder):
        for number in range(12):
            (folder / f"empty{number:02}").mkdir()
        with pytest.raises(InputError) as caught:
            lib.sources.open_source(folder)
        names = ", ".join(f"'empty{number:02}'" for number in range(10))
        assert f"got none in 12 of 15 folders: {names} and 2 more. Fill these" in str(caught.value)
        assert "'empty10'" not in str(caught.value)

    def test_folders_and_shards(self, lib, folder):
        add(folder / "0.tar", b"")
        with pytest.raises(InputError, match=r"expected either .*, got both\. To use the 1 \.tar files, write '.*\*"):
            lib.sources.open_source(folder)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_may_not_be_read(self, lib, folder):
        folder.chmod(0)
        try:
            with pytest.raises(InputError, match="cannot be read: Permission denied"):
                lib.sources.open_source(folder)
        finally:
            folder.chmod(0o700)


class TestPairs:
    @pytest.mark.parametrize(
        ("train", "val", "said"),
        [
            ("ab", "abc", r"Images of 1 class is in '.*val' and not in '.*train': 'c'\. Training and"),
            ("abcd", "bc", r"Images of 2 classes are in '.*train' and not in '.*val': 'a', 'd'\."),
        ],
    )
    def test_refused(self, lib, tmp_path, train, val, said):
        for part, classes in (("train", train), ("val", val)):
            for name in classes:
                add(tmp_path / part / name / "0.jpg", b"")
        pair = [lib.sources.open_source(tmp_path / part) for part in ("train", "val")]
        with pytest.raises(InputError, match=said):
            lib.sources.check_pair(*pair)
        for source in pair:
            lib.sources.check_pair(source, source)


class TestDecoding:
    grey = pixels(0, (20, 30))
    colour = pixels(1, (20, 30, 3))

    def decode(self, lib, data: bytes) -> np.ndarray:
        image = lib.images.decode(data)
        assert image.mode == "RGB"
        return np.asarray(image)

    def test_kinds_without_loss(self, lib):
        grey3 = np.repeat(self.grey[..., None], 3, axis=2)
        deep = self.grey.astype(np.uint16) * 256 + 77
        alpha = np.concatenate([self.colour, self.grey[..., None]], axis=2)
        palette = Image.fromarray(self.colour).quantize(16)
        for name, image, expected in [
            ("colour", Image.fromarray(self.colour), self.colour),
            ("grey", Image.fromarray(self.grey), grey3),
            ("16 bits", Image.fromarray(deep), grey3),
            ("transparent", Image.fromarray(alpha), self.colour),
            ("palette", palette, np.asarray(palette.convert("RGB"))),
            ("black and white", Image.fromarray(self.grey > 127), (grey3 > 127) * np.uint8(255)),
        ]:
            assert np.array_equal(self.decode(lib, encoded(image, "png")), expected), name
        assert np.array_equal(
            self.decode(lib, encoded(Image.fromarray(self.colour), "webp", lossless=True)), self.colour
        )

    def test_cmyk(self, lib):
        image = Image.new("CMYK", (30, 20), (0, 255, 255, 0))
        red = self.decode(lib, encoded(image, quality=95)).reshape(-1, 3)
        assert (abs(red.astype(int) - [255, 0, 0]) < 6).all()

    def test_rotation_tags_are_ignored(self, lib):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        assert self.decode(lib, encoded(Image.fromarray(self.colour), exif=exif)).shape == (20, 30, 3)

    def test_warnings_change_nothing(self, lib, monkeypatch):
        """The tests turn warnings into errors; a large image and damaged EXIF data are decoded all the same."""
        data = encoded(Image.fromarray(self.colour), "png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(data))
        assert np.array_equal(self.decode(lib, data), self.colour)

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (300, 2, 3), (1500, 2000, 3)])
    def test_any_shape(self, lib, shape):
        image = lib.images.decode(encoded(Image.fromarray(pixels(0, shape)), "png"))
        for transform in (lib.images.train_transform(SIZE), lib.images.test_transform(SIZE)):
            assert transform(image).shape == (3, SIZE, SIZE)


class TestTransforms:
    def test_centre(self, lib):
        """A white frame of a tenth of each side is cut off, and the rest is normalised."""
        image = Image.new("RGB", (80, 60), "white")
        image.paste((128, 64, 32), (10, 3, 70, 57))
        result = lib.images.test_transform(56, crop=0.8)(image)
        expected = (torch.tensor([128, 64, 32]) / 255 - torch.tensor(lib.images.MEAN)) / torch.tensor(lib.images.STD)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, expected[:, None, None].expand(3, 56, 56))

    def test_the_whole_image(self, lib):
        image = Image.fromarray(pixels(0, (SIZE, SIZE, 3)))
        back = lib.images.test_transform(SIZE, crop=1.0)(image) * torch.tensor(lib.images.STD)[:, None, None]
        back = (back + torch.tensor(lib.images.MEAN)[:, None, None]) * 255
        torch.testing.assert_close(back, torch.tensor(pixels(0, (SIZE, SIZE, 3))).permute(2, 0, 1).float())

    def shown(self, transform) -> np.ndarray:
        """Which part of an image of coordinates is shown: left, right, top, bottom from 0 to 1, of 300 draws."""
        x, y = np.meshgrid(np.linspace(0, 255, 256), np.linspace(0, 255, 256))
        image = Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8))
        drawn = torch.stack([transform(image) for _ in range(300)])
        std, mean = torch.tensor((0.229, 0.224)), torch.tensor((0.485, 0.456))
        drawn = drawn[:, :2] * std[:, None, None] + mean[:, None, None]
        return torch.stack([drawn[:, 0, 0, 0], drawn[:, 0, 0, -1], drawn[:, 1, 0, 0], drawn[:, 1, -1, 0]], 1).numpy()

    def test_augmentation(self, lib):
        torch.manual_seed(0)
        left, right, top, bottom = self.shown(lib.images.train_transform(96)).T
        mirrored = left > right
        area = abs(right - left) * (bottom - top)
        assert 0.4 < mirrored.mean() < 0.6
        assert 0.06 < area.min() < 0.12
        assert area.max() > 0.9
        assert 0.45 < area.mean() < 0.6  # uniform from 0.08 to 1
        ratio = abs(right - left) / (bottom - top)
        assert 0.7 < ratio.min() < 0.8
        assert 1.25 < ratio.max() < 1.42

    def test_options(self, lib):
        torch.manual_seed(0)
        left, right, top, bottom = self.shown(lib.images.train_transform(96, flip=False, min_scale=0.6)).T
        assert (left < right).all()
        assert 0.57 < ((right - left) * (bottom - top)).min() < 0.65


class TestOneResult:
    """The pixels depend on the seed, the epoch and the image, and on nothing else."""

    def test_workers_and_ranks(self, lib, dataset):
        order = samples(lib)
        expected = list(lib.images.make_loader(dataset, batches(order, 4), 0))
        assert [batch.images.shape for batch in expected] == [(4, 3, SIZE, SIZE)] * 3
        assert [batch.labels.tolist() for batch in expected] == [
            [int(dataset.source.labels[sample.index]) for sample in batch] for batch in batches(order, 4)
        ]
        for workers in (1, 3):
            loader = lib.images.make_loader(dataset, batches(order, 4), workers)
            before = torch.get_rng_state()
            assert same(expected, list(loader))
            assert same(expected, list(loader))  # by the same workers
            assert torch.equal(torch.get_rng_state(), before)
        whole = torch.cat([batch.images for batch in expected])
        for world in (2, 3):
            parts = [lib.images.collate([dataset[s] for s in order[rank::world]]).images for rank in range(world)]
            assert all(torch.equal(part, whole[rank::world]) for rank, part in enumerate(parts))

    def test_seed_epoch_and_image(self, lib, dataset):
        sample = lib.order.Sample(0, 5)
        image = dataset[sample].image
        other = lib.images.Images(dataset.source, dataset.transform, seed=4, replace=True)
        assert torch.equal(dataset[sample].image, image)
        assert not torch.equal(dataset[sample._replace(epoch=1)].image, image)
        assert not torch.equal(other[sample].image, image)
        # two images of the same pixels are cut in different ways
        dataset.source.read = lambda index: encoded(Image.fromarray(pixels(0)))
        assert not torch.equal(dataset[sample].image, dataset[lib.order.Sample(0, 6)].image)

    def test_other_generators(self, lib, dataset):
        """Neither does the state of any generator matter, nor is it changed."""
        results = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            before = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
            results.append(dataset[lib.order.Sample(0, 0)].image)
            after = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
            assert torch.equal(before[0], after[0])
            assert before[1:] == after[1:]
        assert torch.equal(*results)

    def test_the_generator_is_restored_after_an_error(self, lib, dataset):
        def fail(image):
            torch.rand(1)
            raise KeyError("ours")

        dataset.transform = fail
        before = torch.get_rng_state()
        with pytest.raises(KeyError, match="ours"):  # an error of the transform is no fault of the image
            dataset[lib.order.Sample(0, 0)]
        assert torch.equal(torch.get_rng_state(), before)

    def test_pickled(self, lib, dataset):
        again = pickle.loads(pickle.dumps(dataset))
        sample = lib.order.Sample(1, 7)
        assert torch.equal(again[sample].image, dataset[sample].image)


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
        dataset = lib.images.Images(source, lib.images.test_transform(SIZE), seed=0, replace=False)
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
        dataset = lib.images.Images(source, lib.images.test_transform(SIZE), seed=0, replace=False)
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
        dataset = lib.images.Images(source, lib.images.test_transform(SIZE), seed=0, replace=True)
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


class TestDigits:
    def make(self, *argv: str) -> None:
        with imported("imagenet/make_digits") as module:
            module.main(argv)

    def files(self, folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}

    def test_written(self, lib, tmp_path, capsys):
        self.make(str(tmp_path / "digits"))
        train, val = tmp_path / "digits" / "train", tmp_path / "digits" / "val"
        said = f"1,437 images for training in {train}/, 360 for validation in {val}/\n"
        assert capsys.readouterr().out == said
        pair = [lib.sources.open_source(place) for place in (train, val)]
        lib.sources.check_pair(*pair)
        counts = [np.bincount(source.labels) for source in pair]
        assert [count.sum() for count in counts] == [1437, 360]
        assert (abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()) < 0.004).all()
        numbers = {int(Path(source.name(i)).stem) for source in pair for i in range(len(source))}
        assert numbers == set(range(1797))
        first = Image.open(next((tmp_path / "digits").rglob("0000.png")))
        assert (first.size, first.mode, np.asarray(first)[0, 0]) == ((32, 32), "L", 0)
        assert np.asarray(first).max() > 200
        assert first.filename.split(os.sep)[-2] == "0"

        before = self.files(tmp_path / "digits")
        next(train.rglob("*.png")).unlink()
        self.make(str(tmp_path / "digits"), "--seed", "1")
        after = self.files(tmp_path / "digits")
        assert set(after) != set(before)
        by_number = [{Path(path).name: data for path, data in files.items()} for files in (before, after)]
        assert by_number[0] == by_number[1]
        assert len(after) == 1797

    def test_refused(self, tmp_path, capsys):
        add(tmp_path / "train" / "0" / "mine.png", b"")
        for argv, said in [
            ([str(tmp_path)], r"holds something else: .*mine\.png\. Name a folder"),
            ([str(tmp_path / "train" / "0" / "mine.png")], r"mine\.png is a file\."),
            ([str(tmp_path / "x"), "--seed", "-1"], r"--seed: expected a whole number from 0 to 4294967295, got -1\."),
        ]:
            with pytest.raises(SystemExit) as caught:
                self.make(*argv)
            assert caught.value.code == 2
            assert re.search(said, capsys.readouterr().err)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.png"]
