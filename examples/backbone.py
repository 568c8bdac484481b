# SPDX-License-Identifier: MIT
"""Another head on a randomly wired backbone: from "which digit is it?" to "which pixels are which digit?".

The data are scikit-learn's 1,797 scanned digits. The command prints a table and writes a picture and the classifier's
weights to the output folder.

First a small RandWire (Xie et al. 2019) learns to classify one digit on a canvas; its weights are saved. Then a second
one is built with ``features_only=True``: it has no head and returns its feature maps of strides 2 to 32. It loads stem
and stages from the file, and a new head classifies every pixel: a 1x1 convolution brings each map to the same number of
channels, the maps are enlarged and added up, as in feature pyramids (Lin et al. 2017). It is trained on canvases of
several digits with dots between them, and tested on digits that neither network has seen. The same network without the
file is trained for comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets
import torch
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from progress import Progress
from safetensors.torch import load_file, save
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import freewire as fw
from freewire.files import replacing

CANVAS, SIDE, CLASSES = (
    64,
    24,
    11,
)  # sides of canvas and digit in pixels; ten digits, and the background as the last class
DIGITS, TRIES = 3, 20  # digits per canvas, at most; attempts to place each
NODES, CHANNELS, HEAD = 8, 16, 32  # nodes per stage; channels of the first stage (doubled twice), and of the head
STEPS, BATCH, TEST = 200, 64, 256  # steps per training; canvases per step; canvases to test on
LEARNING_RATE = 2e-2  # the maximum of a schedule that rises and then falls over the steps


class Scenes(NamedTuple):
    """Images ``[n, 1, 64, 64]`` float32 from 0 (paper) to 1 (ink), and each pixel's class, ``[n, 64, 64]`` int64."""

    images: Tensor
    classes: Tensor


class Painter:
    """Draws canvases of digits, enlarged threefold, among dots.

    Args:
        images: Digits, ``[n, 8, 8]`` from 0 to 1.
        labels: Their classes, ``[n]``.
        seed: Seed of all random draws.
    """

    def __init__(self, images: Tensor, labels: Tensor, seed: int) -> None:
        self.images, self.labels = images, labels
        self.random = np.random.default_rng(seed)

    def scenes(self, count: int, digits: int = DIGITS) -> Scenes:
        """Draw some canvases."""
        dots = self.random.random((count, 1, CANVAS, CANVAS)) < 0.02
        images = torch.tensor(dots * self.random.random(dots.shape), dtype=torch.float32)
        classes = torch.full((count, CANVAS, CANVAS), CLASSES - 1)
        for image, target in zip(images[:, 0], classes, strict=True):
            taken = torch.zeros(CANVAS, CANVAS, dtype=torch.bool)
            for _ in range(digits):
                self._place(image, target, taken)
        return Scenes(images, classes)

    def named(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw canvases of one digit; return them and its class, ``[count]``."""
        images, classes = self.scenes(count, digits=1)
        return images, classes.flatten(1).amin(dim=1)  # the background has the largest number

    def _place(self, image: Tensor, target: Tensor, taken: Tensor) -> None:
        which = self.random.integers(len(self.labels))
        digit = interpolate(self.images[None, None, which], size=(SIDE, SIDE), mode="bilinear")[0, 0]
        for _ in range(TRIES):
            top, left = self.random.integers(0, CANVAS - SIDE + 1, size=2)
            place = (slice(top, top + SIDE), slice(left, left + SIDE))
            if not taken[place].any():
                break
        else:  # no room is left
            return
        taken[place] = True
        image[place] = torch.maximum(image[place], digit)
        target[place][digit > 0.25] = int(self.labels[which])


class PixelClassifier(nn.Module):
    """A backbone and a head that classifies every pixel.

    Args:
        backbone: A model that returns feature maps, whose channels are in its ``feature_info``.
    """

    def __init__(self, backbone: fw.models.RandWire) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(info["num_chs"], HEAD, 1) for info in backbone.feature_info)
        self.smooth = nn.Sequential(nn.Conv2d(HEAD, HEAD, 3, padding=1, bias=False), nn.BatchNorm2d(HEAD), nn.ReLU())
        self.last = nn.Conv2d(HEAD, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, H, W]`` to ``[B, 11, H, W]``."""
        maps = [lateral(each) for lateral, each in zip(self.lateral, self.backbone(x), strict=True)]
        total = maps.pop()
        while maps:  # from the coarsest to the finest
            total = maps[-1] + interpolate(total, size=maps.pop().shape[2:], mode="bilinear")
        return interpolate(self.last(self.smooth(total)), size=x.shape[2:], mode="bilinear")


def load_painters(seed: int) -> tuple[Painter, Painter]:
    """One painter for training and one for tests, with different digits."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16, dtype=torch.float32).view(-1, 8, 8), torch.tensor(y)
    train, test = train_test_split(torch.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    return Painter(images[train], labels[train], seed), Painter(images[test], labels[test], seed + 1)


def build(seed: int, features_only: bool) -> fw.models.RandWire:
    """Build the network: one wiring per seed, with a classifier's head or without."""
    torch.manual_seed(seed)
    dags = [fw.generators.watts_strogatz_dag(NODES, k=4, p=0.75, seed=3 * seed + stage) for stage in range(3)]
    return fw.models.RandWire(
        dags, CHANNELS, "small", seed=seed, num_classes=CLASSES - 1, in_channels=1, features_only=features_only
    )


def load_backbone(backbone: nn.Module, path: Path) -> list[str]:
    """Load a backbone from a classifier's file, and check that only the classifier's head is unused.

    Returns:
        The names of the unused weights.

    Raises:
        RuntimeError: The file belongs to another network.
    """
    missing, unexpected = backbone.load_state_dict(load_file(path), strict=False)
    foreign = [name for name in unexpected if not name.startswith(("head.", "fc."))]
    if missing or foreign:
        raise RuntimeError(
            f"{path}: expected the weights of all stages and of a classifier's head, got no {missing} and "
            f"unexpected {foreign}. Build both networks with the same wiring and channels."
        )
    return unexpected


def train(model: nn.Module, draw: Callable[[int], tuple[Tensor, Tensor]], steps: int, name: str) -> None:
    """Train with Adam on newly drawn canvases; the labels may be those of images or of pixels."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    model.train()
    with Progress(name, steps, "step") as progress:
        for _ in range(steps):
            images, labels = draw(BATCH)
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(loss=f"{loss.item():.3f}")


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """The most probable class of each image or pixel."""
    model.eval()
    return torch.cat([model(batch).argmax(dim=1) for batch in images.split(BATCH)])


def mean_iou(predicted: Tensor, true: Tensor) -> float:
    """Intersection over union of predicted and true pixels, averaged over the classes that occur."""
    pairs = torch.bincount(CLASSES * true.flatten() + predicted.flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    union = pairs.sum(dim=0) + pairs.sum(dim=1) - pairs.diagonal()
    return (pairs.diagonal() / union)[union > 0].mean().item()


def draw_scenes(scenes: Scenes, predicted: Tensor, path: Path, count: int = 6) -> None:
    """Draw images, true classes and predicted classes, one column per image."""
    colours = ListedColormap([*colormaps["tab10"].colors, "#10151e"])
    figure = Figure(figsize=(1.9 * count + 0.6, 6.5), layout="constrained")
    rows = figure.subplots(3, count)
    for column in range(count):
        rows[0, column].imshow(scenes.images[column, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        for row, classes in ((1, scenes.classes), (2, predicted)):
            rows[row, column].imshow(
                classes[column].numpy(), cmap=colours, vmin=-0.5, vmax=CLASSES - 0.5, interpolation="none"
            )
    for row, name in enumerate(("image", "truth", "prediction")):
        rows[row, 0].set_ylabel(name, size=13)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for digit in range(CLASSES - 1):
        rows[2, 0].plot([], [], "s", color=colours(digit), markersize=9, label=str(digit))
    figure.legend(loc="outside lower center", ncols=CLASSES - 1, frameon=False, handletextpad=0.1)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the classifier, then the two pixel classifiers; print the table, write the picture and the weights."""
    parser = argparse.ArgumentParser(description="Classify every pixel, with a RandWire as the backbone.")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split, the wiring, the weights and the canvases (0)"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each training ({STEPS})")
    parser.add_argument("--quick", action="store_true", help="three steps per training, only to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("demo/backbone"), help="folder (demo/backbone)")
    options = parser.parse_args(argv)
    steps, test_count = (3, 64) if options.quick else (options.steps, TEST)
    if steps < 1:
        parser.error(f"--steps: expected at least 1, got {steps}.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the images are too small to divide among threads

    painter, test_painter = load_painters(options.seed)
    classifier = build(options.seed, features_only=False)
    train(classifier, painter.named, steps, "classifier")
    images, labels = test_painter.named(test_count)
    accuracy = (predict(classifier, images) == labels).float().mean()
    weights = options.out / "classifier.safetensors"
    with replacing(weights) as file:
        file.write(save(classifier.state_dict()))
    print(f"The classifier is right about {accuracy:.1%} of {test_count} canvases of one digit.")

    from_file, from_scratch = (PixelClassifier(build(options.seed, features_only=True)) for _ in range(2))
    unused = load_backbone(from_file.backbone, weights)
    print(f"Stem and stages are loaded from {weights.name}; its head is not used:\n  {', '.join(sorted(unused))}")

    test = test_painter.scenes(test_count)
    predictions = {"all background": torch.full_like(test.classes, CLASSES - 1)}
    for name, model in (("backbone from scratch", from_scratch), ("backbone of the classifier", from_file)):
        train(model, painter.scenes, steps, name)
        predictions[name] = predict(model, test.images)
    print(f"\n{'':28} mean IoU  pixel accuracy")
    for name, predicted in predictions.items():
        accuracy = (predicted == test.classes).float().mean()
        print(f"{name:28} {mean_iou(predicted, test.classes):8.1%} {accuracy:15.1%}")
    draw_scenes(test, predicted, options.out / "pixels.png")
    print(f"\nWritten to {options.out}/: pixels.png, and the classifier as classifier.safetensors")


if __name__ == "__main__":
    main()
