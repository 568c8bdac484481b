# SPDX-License-Identifier: MIT
"""The images of examples/imagenet/: class folders, decoding, augmentation; one result for any workers."""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from freewire.errors import InputError
from tests.vision.imagenet import SIZE, add, batches, encoded, pixels, same, samples

pytestmark = [
    # From Python 3.12 on, forking from a process that has threads is worth a warning, and torch forks its workers.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes:UserWarning"),
]


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
            ("ab", "abc", r"'.*val' has images of 1 class that '.*train' lacks: 'c'\. Training and"),
            ("abcd", "bc", r"'.*train' has images of 2 classes that '.*val' lacks: 'a', 'd'\."),
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
        for transform in (lib.images.train_transform(SIZE), lib.images.val_transform(SIZE)):
            assert transform(image).shape == (3, SIZE, SIZE)


class TestTransforms:
    def test_centre(self, lib):
        """A white frame of a tenth of each side is cut off, and the rest is normalised."""
        image = Image.new("RGB", (80, 60), "white")
        image.paste((128, 64, 32), (10, 3, 70, 57))
        result = lib.images.val_transform(56, crop=0.8)(image)
        expected = (torch.tensor([128, 64, 32]) / 255 - torch.tensor(lib.images.MEAN)) / torch.tensor(lib.images.STD)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, expected[:, None, None].expand(3, 56, 56))

    def test_the_whole_image(self, lib):
        image = Image.fromarray(pixels(0, (SIZE, SIZE, 3)))
        back = lib.images.val_transform(SIZE, crop=1.0)(image) * torch.tensor(lib.images.STD)[:, None, None]
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
