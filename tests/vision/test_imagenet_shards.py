# SPDX-License-Identifier: MIT
"""The shards of examples/imagenet/, written and read by webdataset itself; shards that are damaged."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from freewire.errors import InputError
from tests.vision.imagenet import COUNT, PER_SHARD, content, encoded, entries, pixels, tar

pytestmark = [
    # From Python 3.12 on, forking from a process that has threads is worth a warning, and torch forks its workers.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
PICTURE = encoded(Image.fromarray(pixels(0, (9, 11, 3))))


class TestReading:
    # webdataset does not close its files
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_matches_webdataset(self, lib, shards):
        source = lib.sources.open_source(shards)
        paths = sorted(map(str, shards.iterdir()))
        assert len(paths) == 3
        theirs = list(webdataset.WebDataset(paths, shardshuffle=False))
        assert len(source) == len(theirs) == COUNT
        for index, sample in enumerate(theirs):
            data = next(sample[suffix] for suffix in ("jpg", "jpeg", "png", "webp") if suffix in sample)
            label = int(sample["cls"]) if "cls" in sample else json.loads(sample["json"])["label"]
            assert source.read(index) == data
            assert source.labels[index] == label
            assert source.name(index) == f"{paths[index // PER_SHARD]}: {sample['__key__']}"
        assert source.labels.dtype == np.int64
        assert source.classes == ("0", "1", "2", "3")

    @pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_formats_and_names(self, lib, tmp_path, tar_format):
        """Folders, metadata and hidden files are skipped, suffixes may be in capitals, names not in ASCII."""
        image, long = PICTURE, "d/" * 40 + "n" * 60
        path = tar(
            tmp_path / "0.tar",
            [
                *[("__meta__/info.json", b"{}"), ("._a.jpg", b"?"), ("README", b"?")],
                *[("./a.JPG", image), ("./a.CLS", b" 2\n"), ("./a.txt", b"?")],
                *[(f"{long}.cls", b"0"), (f"{long}.png", image[1:])],
                *[("\N{SNOWMAN}.cls", b"1"), ("\N{SNOWMAN}.json", b"{}"), ("\N{SNOWMAN}.webp", b"")],
            ],
            format=tar_format,
        )
        source = lib.sources.open_source(path)
        assert content(source) == [(image, 2), (image[1:], 0), (b"", 1)]
        assert [source.name(index).split(": ")[1] for index in range(3)] == ["./a", long, "\N{SNOWMAN}"]

    def test_patterns(self, lib, shards, monkeypatch):
        expected = content(lib.sources.open_source(shards))
        monkeypatch.chdir(shards)
        for pattern in (
            "*.tar",
            "train-{0000..0002}.tar",
            "{train-000[01],train-0002}.tar",
            str(shards / "train-000?.tar"),
        ):
            assert content(lib.sources.open_source(pattern)) == expected, pattern
        assert content(lib.sources.open_source("train-0002.tar")) == expected[20:]
        assert content(lib.sources.open_source("train-{0002,0000}.tar")) == [*expected[20:], *expected[:10]]

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("a.tar", ["a.tar"]),
            ("{8..11}", ["8", "9", "10", "11"]),
            ("{08..10}", ["08", "09", "10"]),
            ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
            ("{2..1}", []),
            ("{}{a}{1..}", ["{}{a}{1..}"]),
        ],
    )
    def test_braces(self, lib, pattern, expected):
        assert lib.shards.expand_braces(pattern) == expected

    def test_few_files_are_open(self, lib, shards, monkeypatch):
        monkeypatch.setattr(lib.shards, "OPEN_AT_MOST", 2)
        source = lib.sources.open_source(shards)
        expected = content(source)
        assert len(source._open) == 2
        order = np.random.default_rng(0).permutation(COUNT).tolist()
        assert [source.read(index) for index in order] == [expected[index][0] for index in order]
        descriptors = list(source._open.values())
        del source
        for descriptor in descriptors:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    def test_pickled_without_open_files(self, lib, shards):
        source = lib.sources.open_source(shards)
        expected = content(source)
        again = pickle.loads(pickle.dumps(source))
        assert again._open == {}
        assert content(again) == expected
        assert again.classes == source.classes

    def test_workers(self, lib, shards):
        """Forked workers share the files that are open already."""
        source = lib.sources.open_source(shards)
        source.read(0)
        dataset = lib.images.Images(source, lib.images.train_transform(16), seed=0, replace=True)
        order = [[lib.order.Sample(0, i) for i in part] for part in ((3, 22, 9), (0, 12, 7), (4, 4, 5))]
        here, there = (list(lib.images.make_loader(dataset, order, workers)) for workers in (0, 2))
        assert all(torch.equal(a.images, b.images) for a, b in zip(here, there, strict=True))
        assert [batch.unreadable for batch in there] == [[]] * 3

    def test_a_shard_that_shrinks_later(self, lib, shards):
        """Its images are unreadable, and the run goes on."""
        source = lib.sources.open_source(shards)
        path = shards / "train-0002.tar"
        os.truncate(path, 1536)
        dataset = lib.images.Images(source, lib.images.val_transform(16), seed=0, replace=False)
        batch = lib.images.collate([dataset[lib.order.Sample(0, index)] for index in (0, 22)])
        assert len(batch.images) == 1
        said = f"EOFError: the shard ends after 0 of {len(entries()[22]['png'])} bytes"
        assert batch.unreadable == [(source.name(22), said)]


class TestClasses:
    def test_names(self, lib, shards):
        (shards / "classes.txt").write_text("cat\r\ndog\nemu\nfür\n\n", "utf-8")
        assert lib.sources.open_source(shards).classes == ("cat", "dog", "emu", "für")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"a\nb\nc", r"000003n*: expected a class from 0 to 2, since classes\.txt has 3 names, got 3\. Complete"),
            (b"a\nb\na\nb\n", r"classes\.txt': expected a class on each line, got some twice: 'a', 'b'\. Correct"),
            (b"a\n\nb\nc\n", r"expected a class on each line, got an empty line\."),
            (b"", r"expected a class on each line, got an empty file\."),
            (b"\xff", r"classes\.txt' cannot be read: 'utf-8' codec can't decode"),
        ],
    )
    def test_refused(self, lib, shards, text, said):
        (shards / "classes.txt").write_bytes(text)
        with pytest.raises(InputError, match=said):
            lib.sources.open_source(shards)

    def test_pairs(self, lib, shards, tmp_path):
        """Validation shards without the last class, and with the names in another order."""
        train = lib.sources.open_source(shards)
        path = tar(
            tmp_path / "val.tar", [(f"{i}.{s}", d) for i in range(3) for s, d in (("jpg", b""), ("cls", b"%d" % i))]
        )
        with pytest.raises(InputError, match=r"'.*shards' has images of 1 class that '.*val\.tar' lacks: '3'\."):
            lib.sources.check_pair(train, lib.sources.open_source(path))
        (shards / "classes.txt").write_text("a\nb\nc\nd\n")
        named = lib.sources.open_source(shards)
        (shards / "classes.txt").write_text("b\na\nc\nd\n")
        with pytest.raises(InputError, match=r"are numbered in another way .* the same list of classes"):
            lib.sources.check_pair(named, lib.sources.open_source(shards))


class TestBadShards:
    def refused(self, lib, place: str | Path, said: str) -> None:
        with pytest.raises(InputError, match=said):
            lib.sources.open_source(place)

    def test_nothing_matches(self, lib, shards):
        self.refused(lib, shards / "val-*.tar", r"val-\*\.tar': expected shards, got no file that matches\. Check the")
        self.refused(lib, shards / "train-{0001..0020}.tar", r"expected 20 shards, got 2\. Missing are .* and 8 more\.")

    def test_cut_anywhere(self, lib, shards):
        """Also between two members, where tarfile would see the end of the archive."""
        path = shards / "train-0001.tar"
        whole = path.read_bytes()
        with tarfile.open(path) as file:
            infos = file.getmembers()
        cuts = {0, 100, infos[3].offset, infos[3].offset + 100, infos[3].offset_data, infos[3].offset_data + 1}
        cuts |= {infos[5].offset, infos[-1].offset_data + 1, infos[-1].offset_data + 512}
        for length in sorted(cuts):
            path.write_bytes(whole[:length])
            self.refused(lib, shards, r"train-0001\.tar': expected a complete \.tar, not compressed, got a damaged one")

    def test_a_damaged_header(self, lib, shards):
        path = shards / "train-0001.tar"
        with tarfile.open(path) as file:
            offset = file.getmembers()[4].offset
        with path.open("r+b") as file:
            file.seek(offset + 150)
            file.write(b"?")
        self.refused(
            lib, shards, rf"train-0001\.tar': .* \(no header and no end of the archive at byte {offset:,}\)\. Copy"
        )

    def test_no_tar(self, lib, tmp_path):
        path = tmp_path / "0.tar"
        path.write_bytes(PICTURE)
        self.refused(
            lib, path, r"0\.tar': expected a complete \.tar, not compressed, got .* another file \(.*\)\. Copy"
        )
        with tarfile.open(path, "w:gz") as file:
            file.addfile(tarfile.TarInfo("a.jpg"))
        self.refused(lib, tmp_path, r"0\.tar': expected a complete \.tar, not compressed")

    def test_nothing_in_it(self, lib, tmp_path):
        tar(tmp_path / "0.tar", [("README", b"?")])
        self.refused(lib, tmp_path, "expected samples in the shards, got none")

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            (
                {"cls": b"1"},
                r"0\.tar', sample 'x/7': expected an image \(\.jpg, .*\), got only \.cls\. Correct the shard",
            ),
            ({"5.jpg": b"", "cls": b"1"}, r"expected an image \(\.jpg, .*\), got only \.5\.jpg, \.cls\."),
            ({"jpg": b""}, r"""expected its class in \.cls or as "label" in \.json, got neither\."""),
            ({"jpg": b"", "cls": b"-1"}, r"expected a class from 0 to 999,999, got b'-1'\. Correct the shard\."),
            ({"jpg": b"", "cls": b"1000000"}, r"expected a class from 0 to 999,999, got 1000000\."),
            ({"jpg": b"", "cls": b"9" * 5000}, r"expected a class from 0 to 999,999, got b'999.*\.\.\..*'\."),
            ({"jpg": b"", "cls": b"1.0"}, r"got b'1\.0'"),
            ({"jpg": b"", "cls": "\N{SUPERSCRIPT TWO}".encode()}, r"got b'\\xc2\\xb2'"),
            ({"jpg": b"", "cls": b""}, r"got b''"),
            ({"jpg": b"", "json": b'{"label": -2}'}, r"got -2"),
            ({"jpg": b"", "json": b'{"label": true}'}, r"got True"),
            ({"jpg": b"", "json": b'{"label": 1.5}'}, r"got 1\.5"),
            ({"jpg": b"", "json": b'{"class": 1}'}, r"""got b'{"class": 1}'"""),
            ({"jpg": b"", "json": b"[1]"}, r"got b'\[1\]'"),
            ({"jpg": b"", "json": b"[" * 100_000}, r"got b'\[\[.*\.\.\."),
            ({"jpg": b"", "json": b"\xff{"}, r"got b'\\xff{'"),
        ],
    )
    def test_samples(self, lib, tmp_path, members, said):
        good = [("a.jpg", b""), ("a.cls", b"0")]
        tar(tmp_path / "0.tar", [*good, *((f"x/7.{suffix}", data) for suffix, data in members.items())])
        self.refused(lib, tmp_path, said)

    def test_the_same_member_twice(self, lib, tmp_path):
        tar(tmp_path / "0.tar", [("a.jpg", b""), ("a.cls", b"0"), ("a.JPG", b"")])
        self.refused(lib, tmp_path, r"0\.tar': expected every file once, got 'a\.JPG' twice")
