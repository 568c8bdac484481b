# SPDX-License-Identifier: MIT
"""The examples of the 2019 face, and those that show what wiring by neurons is good for, in a small form."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

import freewire as fw
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str, *arguments: str) -> None:
    with imported(name) as module:
        module.main(arguments)


def write_mnist(raw: Path, compressed: bool) -> dict[str, np.ndarray]:
    """Files as MNIST has them, of 30 and 10 images."""
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 30), ("t10k", 10)):
        arrays[f"{part}-images-idx3-ubyte"] = draw.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = draw.integers(0, 10, count).astype(np.uint8)
    for name, array in arrays.items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content = header + array.tobytes()
        path = raw / f"{name}.gz" if compressed else raw / name
        path.write_bytes(gzip.compress(content) if compressed else content)
    return arrays


class TestClassic:
    def test_xor(self, capsys):
        run("classic/xor", "--epochs", "20", "--draw")
        out = capsys.readouterr().out
        assert re.findall(r"(\d) xor (\d): 0\.\d{3} \(should be (\d)\)", out) == [
            ("0", "0", "0"), ("1", "0", "1"), ("0", "1", "1"), ("1", "1", "0")
        ]  # fmt: skip
        assert "epoch 20/20: loss " in out
        assert Path("renders/xor.png").is_file()

    @pytest.mark.nightly
    def test_xor_is_learnt(self, capsys):
        run("classic/xor")
        answers = re.findall(r"xor \d: (\S+) \(should be (\d)\)", capsys.readouterr().out)
        assert [round(float(answer)) for answer, _ in answers] == [int(target) for _, target in answers]

    def test_drawing(self, folder):
        run("classic/drawing")
        pictures = [matplotlib.image.imread(path) for path in sorted((folder / "renders").iterdir())]
        assert len(pictures) == 3
        assert all((picture[..., :3] < 0.9).any() for picture in pictures)

    def test_mnist_on_digits(self, capsys):
        run("classic/mnist", "--epochs", "4")
        out = capsys.readouterr().out
        assert out.startswith("scikit-learn's digits: 1,437 images to train on, 360 to test\n")
        assert int(re.search(r"Final accuracy: (\d+) of 360", out)[1]) > 270

    def test_mnist_where_torchvision_puts_it(self, folder, capsys):
        write_mnist(folder / "data" / "MNIST" / "raw", compressed=False)
        run("classic/mnist", "--epochs", "1")
        assert capsys.readouterr().out.startswith("MNIST: 30 images to train on, 10 to test\n")


class TestHandwritten:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_reads_what_is_in_the_files(self, folder, compressed):
        arrays = list(write_mnist(folder / "here", compressed).values())
        with imported("handwritten") as handwritten:
            data, name = handwritten.load(folder / "here")
        assert name == "MNIST"
        np.testing.assert_allclose(data.train_x.numpy(), arrays[0].reshape(30, 784) / 255, rtol=1e-6)
        assert data.train_y.tolist() == arrays[1].tolist()
        assert data.test_x.shape == (10, 784)
        assert data.test_y.tolist() == arrays[3].tolist()

    def test_refused(self, folder, capsys):
        with imported("handwritten") as handwritten:
            with pytest.raises(FileNotFoundError, match="expected MNIST's files, train-images"):
                handwritten.load(folder)
            write_mnist(folder / "cut", compressed=False)
            path = folder / "cut" / "train-images-idx3-ubyte"
            path.write_bytes(path.read_bytes()[:-1])
            with pytest.raises(ValueError, match=r"expected \[30, 28, 28\] bytes, got 23519\. It is cut short"):
                handwritten.load(folder / "cut")
            for content in (b"P5 28 28", b"\0\0", b"\0\0\x08\x03\0\0\0"):
                path.write_bytes(content)
                with pytest.raises(ValueError, match="expected an IDX file"):
                    handwritten.load(folder / "cut")
            path.unlink()
            packed = path.with_name(f"{path.name}.gz")
            for content in (b"", b"P5 28 28", gzip.compress(bytes(100))[:-9], gzip.compress(b"a")[:10] + bytes(20)):
                packed.write_bytes(content)
                with pytest.raises(ValueError, match=r"(expected a whole gzip|expected an IDX) file"):
                    handwritten.load(folder / "cut")
        with pytest.raises(SystemExit):
            run("mnist", "--data", "nowhere")
        assert "--data: nowhere: expected MNIST's files" in capsys.readouterr().err


class TestXor:
    def test_two_neurons_learn_it(self, capsys):
        run("xor", "--epochs", "300", "--out", "made/here")
        out = capsys.readouterr().out
        rows = re.findall(r"^(\d) (\d) +\d\.\d\d +(\d\.\d\d)$", out, re.MULTILINE)
        assert [round(float(value)) for *_, value in rows] == [0, 1, 1, 0]
        assert re.search(r"^xor = sigmoid\(\S+ a \S+ b \S+ helper \S+\)$", out, re.MULTILINE)
        assert Path("made/here/xor.png").is_file()


class TestMnist:
    def test_the_best_epoch_is_kept(self, capsys):
        run("mnist", "--hidden", "60", "--fan-in", "20", "--epochs", "3", "--out", "made")
        out = capsys.readouterr().out
        best, accuracy = re.search(r"epoch (\d) was best: (\d+\.\d)% of the test images", out).groups()
        losses = [float(loss) for loss in re.findall(r"val_loss (\S+),", out)]
        assert losses.index(min(losses)) + 1 == int(best)
        assert float(accuracy) > 25  # of a tenth by chance; it is a small network, and three epochs
        assert fw.load("made/best.safetensors").graph.num_edges == 60 * 20 + 10 * 20

    def test_refused(self, capsys):
        with pytest.raises(SystemExit):
            run("mnist", "--fan-in", "0")
        assert "expected at least 1" in capsys.readouterr().err


class TestDensenetVsMlp:
    def test_table(self, capsys):
        run("densenet_vs_mlp", "--hidden", "4", "--epochs", "1", "--seeds", "2")
        rows = re.findall(r"^(.+?) {2,}(\d+\.\d)% \+- \d+\.\d% +([\d,]+) +(\d+\.\d\d)$", capsys.readouterr().out, re.M)
        assert [name.split(",")[0] for name, *_ in rows] == ["densenet", "MLP", "MLP", "torch's layers"]
        parameters = [int(count.replace(",", "")) for _, _, count, _ in rows]
        assert parameters[0] == 4 * 64 + 6 + 10 * 68 + 14
        assert parameters[1] == parameters[3] == pytest.approx(parameters[0], rel=0.1)
        assert parameters[2] == pytest.approx(parameters[0], rel=0.1)

    def test_contestants_are_as_deep_as_they_say(self):
        with imported("densenet_vs_mlp") as example:
            made = [make() for make in example.contestants(8).values()]
        assert [net.graph.depth for net in made[:3]] == [9, 2, 9]
        assert made[3](torch.zeros(1, 64)).shape == (1, 10)

    def test_refused(self, capsys):
        with pytest.raises(SystemExit):
            run("densenet_vs_mlp", "--seeds", "0")
        assert "expected at least 1" in capsys.readouterr().err
