# SPDX-License-Identifier: MIT
"""The script that writes scikit-learn's digits as class folders for examples/imagenet/."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.examples import imported
from tests.vision.imagenet import (
    add,
)


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
