# SPDX-License-Identifier: MIT
"""Train a randomly wired backbone without labels, then test what it has learnt with a linear classifier.

Barlow Twins (Zbontar, Jing, Misra, LeCun, Deny: Self-supervised learning via redundancy reduction, ICML 2021): two
random views of each image go through the backbone and a projector of three layers. C is the matrix of correlations,
over the batch, between the outputs for the first views and those for the second. The loss is

    sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2

so both views must agree in every output, and no two outputs may say the same.

The data are scikit-learn's 1,797 scanned digits, enlarged to 32x32 pixels, or with ``--data FOLDER`` the class folders
FOLDER/train and FOLDER/val. Pretraining is given the training images alone. Labels are used afterwards, by logistic
regression on frozen, standardised features, in the same way for the pretrained backbone, for the same backbone before
pretraining, and for the pixels. The command prints a table of accuracies on the test images, and writes the backbone,
all figures and a picture to the output folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import sklearn.datasets
import timm
import torch
from matplotlib.figure import Figure
from PIL import Image
from progress import Progress
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import freewire as fw
import freewire.timm  # registers RandWire with timm
from freewire.errors import InputError, cut, shown
from freewire.files import replacing

NODES, CHANNELS = 6, 32  # of the default backbone: nodes per stage, channels of the first stage (doubled twice)
FEW, DRAWS = 10, 5  # labels per class in the second evaluation, and how many times they are drawn
EPOCHS, QUICK = 80, 10  # epochs by default, and with --quick
STRENGTH = 0.01  # of the logistic regression's data term against its penalty, for all features alike
PIXELS = 32  # the pixels are compared at this side, or larger images would have too many
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data(NamedTuple):
    """Images with labels, to train on and to test on; the random transform that makes a view, and the plain one."""

    train: Dataset[Any]
    test: Dataset[Any]
    channels: int
    augment: v2.Transform
    plain: v2.Transform


def load_digits(size: int, seed: int) -> Data:
    """Split the digits 80 to 20, with the same share of each class, and enlarge them."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    images = interpolate(
        torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), size=(size, size), mode="bilinear"
    )
    train, test = train_test_split(torch.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    labels = torch.tensor(y)
    augment = v2.Compose(  # no flips: a mirrored digit is another sign
        [
            v2.RandomAffine(10, (0.06, 0.06), (0.88, 1.12), 8, v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(brightness=0.25, contrast=0.25),
            v2.RandomErasing(p=0.3, scale=(0.02, 0.15)),
        ]
    )
    train_set, test_set = (TensorDataset(images[part], labels[part]) for part in (train, test))
    return Data(train_set, test_set, 1, augment, v2.Identity())


def load_folders(folder: Path, size: int) -> Data:
    """Open the class folders ``train`` and ``val``.

    Raises:
        InputError: One of them is missing or has a class without images, or their classes differ.
    """
    parts = []
    for name in ("train", "val"):
        try:
            parts.append(ImageFolder(folder / name, loader=read_image))
        except OSError as error:
            raise InputError(f"--data: expected class folders of images in {folder / name}: {cut(error)}") from None
    if len(parts[0].classes) < 2 or parts[0].classes != parts[1].classes:
        got = " and ".join(shown(part.classes) for part in parts)
        raise InputError(f"--data: expected the same two or more classes in train and in val, got {got}.")
    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(PHOTO_MEAN, PHOTO_STD)]
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(size // 20 * 2 + 1, (0.1, 2.0))], p=0.5),
            v2.RandomSolarize(128, p=0.1),
            *finish,
        ]
    )
    return Data(*parts, 3, augment, v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *finish]))


def read_image(path: str) -> Image.Image:
    """Decode an image file, or raise an `InputError` that names it."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected an image, got a file that cannot be decoded ({cut(error)}).") from None


class Views(Dataset[tuple[Tensor, Tensor]]):
    """Two random views of each training image, without its label.

    An item is asked for by epoch and index, which with the seed determine both views: the number of workers does not.
    """

    def __init__(self, data: Data, seed: int) -> None:
        self.images, self.augment, self.seed = data.train, data.augment, seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the views of image ``index`` in epoch ``epoch``."""
        image, _ = self.images[place[1]]
        state = np.random.SeedSequence([self.seed, *place]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state[0]))
            return self.augment(image), self.augment(image)


class Order(Sampler[list[tuple[int, int]]]):
    """The batches of all epochs, each epoch in a new order; what does not fill a batch is skipped."""

    def __init__(self, count: int, batch: int, epochs: int, seed: int) -> None:
        self.count, self.batch, self.epochs, self.seed = count, batch, epochs, seed

    def __len__(self) -> int:
        """The number of batches."""
        return self.epochs * (self.count // self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield lists of (epoch, index)."""
        for epoch in range(self.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count).tolist()
            for start in range(0, self.count - self.batch + 1, self.batch):
                yield [(epoch, index) for index in order[start : start + self.batch]]


class Plain(Dataset[tuple[Tensor, int]]):
    """Images without augmentation, and their labels."""

    def __init__(self, images: Dataset[Any], transform: v2.Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image and its label."""
        image, label = self.images[index]
        return self.transform(image), int(label)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """The matrix of correlations over the batch between the columns of two tensors ``[B, D]``.

    It is computed in float32 at least. Columns without variance have correlation 0, since batch_norm adds its eps.
    """
    with torch.autocast(first.device.type, enabled=False):
        kind = torch.promote_types(first.dtype, torch.float32)
        a, b = (batch_norm(x.to(kind), None, None, training=True, eps=1e-5) for x in (first, second))
        return a.T @ b / len(a)


def redundancy_loss(c: Tensor, off_diagonal: float) -> Tensor:
    """The loss of a matrix of correlations ``[D, D]``; ``off_diagonal`` is the paper's lambda."""
    eye = torch.eye(len(c), dtype=c.dtype, device=c.device)
    return ((c - eye).square() * (eye + off_diagonal * (1 - eye))).sum()


def build(model: str | None, channels: int, size: int, seed: int) -> tuple[nn.Module, int]:
    """Build a backbone without a classifier, and find how many features it returns.

    Raises:
        InputError: timm knows no such model, or it accepts no images of that size.
    """
    torch.manual_seed(seed)
    if model is None:
        dags = [fw.generators.watts_strogatz_dag(NODES, k=2, p=0.75, seed=3 * seed + stage) for stage in range(3)]
        backbone: nn.Module = fw.models.RandWire(dags, CHANNELS, "small", num_classes=0, in_channels=channels)
    elif timm.is_model(model):
        backbone = timm.create_model(model, num_classes=0, in_chans=channels)
    else:
        raise InputError(f"--model: expected a name that timm.list_models() lists, got {shown(model)}.")
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, channels, size, size))
        return backbone, features.flatten(1).shape[1]
    except Exception as error:  # each model has its own way to refuse a size
        raise InputError(f"--size: expected a size that the model accepts, got {size} ({cut(error)})") from error


def projector(features: int, width: int) -> nn.Sequential:
    """The three layers between the features and the loss; they are not used afterwards."""
    hidden = [m for n in (features, width) for m in (nn.Linear(n, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, width, bias=False))


class History(NamedTuple):
    """The mean loss of every epoch, and the matrices of correlations in the first step and in the last."""

    losses: list[float]
    first: Tensor
    last: Tensor


def pretrain(
    backbone: nn.Module, head: nn.Module, loader: DataLoader[Any], epochs: int, lr: float, lam: float
) -> History:
    """Train backbone and projector on batches of two views; there is no label in sight."""
    device = next(backbone.parameters()).device
    model = nn.Sequential(backbone, nn.Flatten(), head).train()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=len(loader), pct_start=0.2)
    losses: list[float] = []
    with Progress("pretraining", len(loader), "step") as progress:
        for views in loader:
            a, b = (view.to(device, memory_format=torch.channels_last) for view in views)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                c = correlation(model(a), model(b))
            loss = redundancy_loss(c, lam)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if not losses:
                first = c.detach()
            losses.append(loss.item())
            progress.update(loss=f"{losses[-1]:.2f}")
    means = np.reshape(losses, (epochs, -1)).mean(axis=1).tolist()
    return History(means, first.cpu(), c.detach().cpu())


def features(
    model: nn.Module, images: Dataset[Any], plain: v2.Transform, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the features ``[n, F]`` of images, with the model as it is, and their labels ``[n]``."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    loader = DataLoader(Plain(images, plain), batch_size=128, num_workers=workers)
    model.eval()
    with torch.no_grad():
        found = [(model(x.to(device)).flatten(1).float().cpu(), y) for x, y in loader]
    x, y = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    return x, y


def evaluate(model: nn.Module, data: Data, workers: int) -> dict[str, float]:
    """Fit linear classifiers to the features of the training images; return the accuracies on the test images.

    The means and deviations for standardising are the training images' too.
    """
    x, y = features(model, data.train, data.plain, workers)
    test_x, test_y = features(model, data.test, data.plain, workers)

    def accuracy(chosen: np.ndarray) -> float:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
        return float(classifier.fit(x[chosen], y[chosen]).score(test_x, test_y))

    few = []
    for draw in range(DRAWS):  # the same labels for every model
        order = np.random.default_rng(draw).permutation(len(y))
        few.append(accuracy(np.concatenate([order[y[order] == label][:FEW] for label in np.unique(y)])))
    return {"all labels": accuracy(np.arange(len(y))), f"{FEW} labels per class": float(np.mean(few))}


def draw(history: History, table: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the loss, the matrix of correlations before and after pretraining, and the accuracies."""
    figure = Figure(figsize=(15, 4), layout="constrained")
    loss, before, after, bars = figure.subplots(1, 4)
    loss.plot(range(1, len(history.losses) + 1), history.losses, color="#1f5fa8", marker=".")
    loss.set(title="Loss", xlabel="epoch", ylim=(0, None))
    for axes, c, name in ((before, history.first, "first"), (after, history.last, "last")):
        shown_as = axes.imshow(c.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
        axes.set(title=f"Correlations in the {name} step", xlabel="output, second view", ylabel="output, first view")
    figure.colorbar(shown_as, ax=[before, after], shrink=0.8)
    kinds = list(next(iter(table.values())))
    for i, (name, row) in enumerate(table.items()):
        places = np.arange(len(kinds)) + 0.27 * (i - 1)
        drawn = bars.bar(places, [100 * row[kind] for kind in kinds], 0.25, label=name, color=f"C{(7, 1, 0)[i]}")
        bars.bar_label(drawn, fmt="%.1f", size=8)
    bars.set(title="Linear evaluation", ylabel="test accuracy in %", xticks=range(len(kinds)), ylim=(0, 100))
    bars.set_xticklabels(kinds)
    bars.legend(loc="lower center", fontsize="small")
    figure.savefig(path, dpi=110)


def options_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and raise an `InputError` for numbers that make no sense."""
    parser = argparse.ArgumentParser(description="Pretrain a RandWire without labels, and evaluate its features.")
    add = parser.add_argument
    add("--data", type=Path, help="folder with the class folders train and val (scikit-learn's digits)")
    add("--model", help="a name for timm.create_model (a small RandWire)")
    add("--epochs", type=int, help=f"passes over the training images ({EPOCHS})")
    add("--batch", type=int, default=64, help="images per step (64)")
    add("--size", type=int, default=32, help="side of the images in pixels (32)")
    add("--lr", type=float, default=5e-3, help="maximum of the learning rate, which rises and then falls (0.005)")
    add("--lambda", type=float, default=0.02, dest="off_diagonal", help="weight of the redundancy (0.02)")
    add("--projector", type=int, default=128, help="outputs of each of the projector's layers (128)")
    add("--seed", type=int, default=0, help="seed of split, wiring, weights, batches and views (0)")
    add("--workers", type=int, default=1, help="processes that prepare images; 0: none (1)")
    add("--quick", action="store_true", help=f"{QUICK} epochs, unless --epochs says otherwise")
    add("--out", type=Path, default=Path("demo/twins"), help="folder of the results (demo/twins)")
    options = parser.parse_args(argv)
    if options.epochs is None:
        options.epochs = QUICK if options.quick else EPOCHS
    least = {"epochs": 1, "batch": 2, "size": 8, "projector": 2, "seed": 0, "workers": 0}
    for name, value in least.items():
        if (got := getattr(options, name)) < value:
            why = " Outputs are standardised over the batch." if name == "batch" else ""
            raise InputError(f"--{name}: expected at least {value}, got {got}.{why}")
    for flag, got in (("lr", options.lr), ("lambda", options.off_diagonal)):
        if not 0 < got < float("inf"):
            raise InputError(f"--{flag}: expected a positive number, got {got}.")
    return options


def run(argv: Sequence[str] | None) -> None:
    """Pretrain, evaluate, print the table, and write the results."""
    options = options_of(argv)
    data = load_folders(options.data, options.size) if options.data else load_digits(options.size, options.seed)
    count = len(data.train)  # type: ignore[arg-type]
    if count < options.batch:
        raise InputError(f"--batch: expected at most the {count} training images, got {options.batch}.")
    backbone, width = build(options.model, data.channels, options.size, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone.to(device, memory_format=torch.channels_last)
    head = projector(width, options.projector).to(device)
    untrained = copy.deepcopy(backbone)

    order = Order(count, options.batch, options.epochs, options.seed)
    loader = DataLoader(Views(data, options.seed), batch_sampler=order, num_workers=options.workers)
    history = pretrain(backbone, head, loader, options.epochs, options.lr, options.off_diagonal)
    with replacing(options.out / "backbone.safetensors") as file:
        file.write(safetensors.torch.save({k: v.cpu().contiguous() for k, v in backbone.state_dict().items()}))

    pixels = nn.Sequential(nn.AdaptiveAvgPool2d(min(PIXELS, options.size)), nn.Flatten())
    models = {"raw pixels": pixels, "untrained backbone": untrained, "pretrained backbone": backbone}
    table = {name: evaluate(model, data, options.workers) for name, model in models.items()}
    print(f"{'test accuracy':20}" + "".join(f"{kind:>22}" for kind in table["raw pixels"]))
    for name, row in table.items():
        print(f"{name:20}" + "".join(f"{accuracy:22.1%}" for accuracy in row.values()))
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    with replacing(options.out / "metrics.json") as file:
        written = {"settings": settings, "loss": history.losses, "accuracy": table}
        file.write(json.dumps(written, indent=1).encode() + b"\n")
    draw(history, table, options.out / "twins.png")
    print(f"\nWritten to {options.out}/: backbone.safetensors, metrics.json, and the picture twins.png")


def main(argv: Sequence[str] | None = None) -> None:
    """Run; a mistake of the user is one sentence on stderr and exit status 2."""
    try:
        run(argv)
    except InputError as error:  # a worker's comes with its traceback, which ends with the message
        print(str(error).splitlines()[-1].removeprefix("freewire.errors.InputError: "), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
