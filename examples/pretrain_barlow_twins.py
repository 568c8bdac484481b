# SPDX-License-Identifier: MIT
"""Train a randomly wired backbone without labels, then test what it has learnt with a linear classifier.

Barlow Twins (Zbontar et al.: Self-supervised learning via redundancy reduction, ICML 2021): two random views of each
image go through the backbone and a projector of three layers. C is the matrix of correlations, over the batch, between
the outputs for the first views and those for the second. The loss, sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2,
is small if both views agree in every output and no two outputs say the same.

The data are scikit-learn's 1,797 scanned digits, enlarged to 32x32 pixels, or with ``--data FOLDER`` the class folders
FOLDER/train and FOLDER/val. Pretraining reads the training images alone. Labels are used afterwards, by logistic
regression on frozen, standardised features: of the pretrained backbone, of the same backbone before pretraining, and on
the pixels. The command prints the accuracies on the test images, and writes the backbone, all figures and a picture.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
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
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import freewire as fw
import freewire.timm  # registers RandWire with timm
from freewire.errors import FreewireError, InputError, cut, shown
from freewire.files import replacing

NODES, CHANNELS = 6, 32  # of the default backbone: nodes per stage, channels of the first stage (doubled twice)
FEW, DRAWS = 10, 5  # labels per class in the second evaluation, and how many times they are drawn
QUICK = 13  # epochs with --quick
STRENGTH = 0.01  # of the logistic regression's data term against its penalty, for all features alike
PIXELS = 32  # the pixels are compared at this side, or larger images would have too many
NUMBERS = {  # options: default, least, description
    "epochs": (80, 1, "passes over the training images"),
    "batch": (64, 2, "images per step, over which the outputs are standardised"),
    "size": (32, 8, "side of the images in pixels"),
    "lr": (5e-3, 0.0, "maximum of the learning rate, which rises and then falls"),
    "lambda": (0.02, 0.0, "weight of the second sum of the loss"),
    "projector": (128, 2, "width of the projector's layers"),
    "seed": (0, 0, "seed of the split, the wiring, the weights, the batches and the views"),
    "workers": (1, 0, "processes that prepare images; 0 for none"),
}


class Data(NamedTuple):
    """The training images as they are, and what makes a view of one; training and test images as the evaluation's."""

    images: Dataset[Any]
    augment: v2.Transform
    train: Dataset[Any]
    test: Dataset[Any]


def load_digits(size: int, seed: int) -> Data:
    """Split the digits 80 to 20, with the same share of each class, and enlarge them."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x = interpolate(torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8), size=(size, size), mode="bilinear")
    parts = train_test_split(x, torch.tensor(y), test_size=0.2, stratify=y, random_state=seed)
    train, test = TensorDataset(*parts[::2]), TensorDataset(*parts[1::2])
    affine = v2.RandomAffine(10, (0.06, 0.06), (0.88, 1.12), 8, v2.InterpolationMode.BILINEAR)
    # no flips: a mirrored digit is another sign
    augment = v2.Compose([affine, v2.ColorJitter(brightness=0.25), v2.RandomErasing(p=0.3, scale=(0.02, 0.15))])
    return Data(train, augment, train, test)


def load_folders(folder: Path, size: int) -> Data:
    """Open the class folders ``train`` and ``val``."""
    finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    plain = v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *finish])
    parts = []
    for name, transform in (("train", None), ("train", plain), ("val", plain)):
        try:
            parts.append(ImageFolder(folder / name, transform, loader=read_image))
        except OSError as error:
            raise InputError(f"--data: expected class folders of images in {folder / name}: {cut(error)}") from None
    if len(parts[0].classes) < 2 or parts[0].classes != parts[2].classes:
        got = " and ".join(shown(part.classes) for part in parts[1:])
        raise InputError(f"--data: expected the same two or more classes in train and in val, got {got}.")
    augment = [
        v2.RandomResizedCrop(size, scale=(0.2, 1)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(size // 20 * 2 + 1, (0.1, 2.0))], p=0.5),
        v2.RandomSolarize(128, p=0.1),
    ]
    return Data(parts[0], v2.Compose(augment + finish), *parts[1:])


def read_image(path: str) -> Image.Image:
    """Decode an image file, or raise an `InputError` that names it."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: expected an image, got a file that cannot be decoded ({cut(error)}).") from None


class Views(Dataset[tuple[Tensor, Tensor]]):
    """Two random views of each training image, without its label; they depend on seed, epoch and index alone."""

    def __init__(self, data: Data, seed: int) -> None:
        self.images, self.augment, self.seed = data.images, data.augment, seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the views of image ``index`` in epoch ``epoch``."""
        image, _ = self.images[place[1]]
        seed = np.random.SeedSequence([self.seed, *place]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed[0]))
            return self.augment(image), self.augment(image)


def batches(count: int, batch: int, epochs: int, seed: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the epochs and indices of each batch, in a new order in each epoch, without what does not fill a batch."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(count).tolist()
        for start in range(0, count - batch + 1, batch):
            yield [(epoch, index) for index in order[start : start + batch]]


def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> tuple[Tensor, Tensor]:
    """The loss of the projector's outputs for two views, ``[B, D]`` each, and the matrix of correlations ``[D, D]``.

    They are computed in float32 at least. An output without variance has correlation 0, since batch_norm adds its eps.
    """
    with torch.autocast(first.device.type, enabled=False):
        dtype = torch.promote_types(first.dtype, torch.float32)
        a, b = (batch_norm(x.to(dtype), None, None, training=True, eps=1e-5) for x in (first, second))
        c = a.T @ b / len(a)
        eye = torch.eye(len(c), dtype=dtype, device=c.device)
        return ((c - eye).square() * (eye + off_diagonal * (1 - eye))).sum(), c


def build(name: str | None, image: Tensor, width: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """Build the backbone, a classifier without its last layer, and the projector, which only pretraining uses."""
    torch.manual_seed(seed)
    if name is not None and not timm.is_model(name):
        raise InputError(f"--model: expected a name that timm.list_models() lists, got {shown(name)}.")
    try:
        if name is None:
            dags = [fw.generators.watts_strogatz_dag(NODES, k=2, p=0.75, seed=3 * seed + stage) for stage in range(3)]
            backbone = fw.models.RandWire(dags, CHANNELS, "small", num_classes=0, in_channels=len(image))
        else:
            backbone = timm.create_model(name, num_classes=0, in_chans=len(image))
        with torch.no_grad():
            _, features = backbone.eval()(image[None]).shape
    except (AssertionError, FreewireError, RuntimeError, TypeError, ValueError) as error:  # each model has its own
        raise InputError(f"--size: expected one that fits the model, got {image.shape[-1]} ({cut(error)}).") from error
    hidden = [m for n in (features, width) for m in (nn.Linear(n, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())]
    return backbone, nn.Sequential(*hidden, nn.Linear(width, width, bias=False))


def pretrain(model: nn.Module, loader: DataLoader[Any], steps: int, lr: float, lam: float) -> tuple[Any, Any]:
    """Train on batches of two views; return the loss of every step and the first and last matrix of correlations."""
    device = next(model.train().parameters()).device
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps, pct_start=0.2)
    losses, matrices = [], []
    with Progress("pretraining", steps, "step") as progress:
        for views in loader:
            a, b = (view.to(device, memory_format=torch.channels_last) for view in views)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss, c = barlow_twins(model(a), model(b), lam)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            matrices[1:] = [c.detach()]
            progress.update(loss=f"{losses[-1]:.2f}")
            if not math.isfinite(losses[-1]):
                raise InputError(f"--lr: expected a finite loss, got {losses[-1]} in step {len(losses)}; lower it.")
    return losses, [matrices[0].cpu(), matrices[-1].cpu()]


@torch.no_grad()
def features(model: nn.Module, images: Dataset[Any], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the features ``[n, F]`` of images, and their labels ``[n]``."""
    device = next(model.eval().parameters(), torch.empty(0)).device
    loader = DataLoader(images, batch_size=128, num_workers=workers)
    found = [(model(x.to(device)).float().cpu(), y) for x, y in loader]
    return torch.cat([x for x, _ in found]).numpy(), torch.cat([y for _, y in found]).numpy()


def evaluate(model: nn.Module, data: Data, workers: int) -> dict[str, float]:
    """Fit linear classifiers to the features of the training images; return their accuracies on the test images."""
    (x, y), test = (features(model, part, workers) for part in (data.train, data.test))

    def accuracy(chosen: np.ndarray) -> float:
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
        return float(classifier.fit(x[chosen], y[chosen]).score(*test))

    few = []
    for draw in range(DRAWS):  # of the labels, the same for every model
        order = np.random.default_rng(draw).permutation(len(y))
        few.append(accuracy(np.concatenate([order[y[order] == label][:FEW] for label in np.unique(y)])))
    return {"all labels": accuracy(np.arange(len(y))), f"{FEW} labels per class": float(np.mean(few))}


def draw(losses: list[float], matrices: list[Tensor], path: Path) -> None:
    """Draw the loss, and the matrices of correlations before and after pretraining."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, *places = figure.subplots(1, 3)
    loss.plot(losses, linewidth=0.8)
    loss.set(title="Loss", xlabel="step", ylim=(0, None))
    for axes, c, name in zip(places, matrices, ("first", "last"), strict=True):
        image = axes.imshow(c.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
        axes.set(title=f"Correlations in the {name} step", xlabel="outputs, second view", ylabel="outputs, first view")
    figure.colorbar(image, ax=places)
    figure.savefig(path, dpi=130)


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Pretrain a RandWire without labels, and evaluate its features.")
    parser.add_argument("--data", type=Path, help="folder with the class folders train and val (none: digits)")
    parser.add_argument("--model", help="a name for timm.create_model (none: a small RandWire)")
    for name, (default, _, text) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} ({default})")
    parser.add_argument("--quick", action="store_const", const=QUICK, dest="epochs", help=f"--epochs {QUICK}")
    parser.add_argument("--out", type=Path, default=Path("demo/twins"), help="folder of the results (demo/twins)")
    options = parser.parse_args(argv)
    for name, (_, least, _) in NUMBERS.items():
        if not least <= (value := getattr(options, name)) < 2**32:
            raise InputError(f"--{name}: expected at least {least} and less than 2**32, got {value}.")
    return options


def run(options: argparse.Namespace) -> None:
    """Pretrain, evaluate, print the table, and write the results."""
    data = load_folders(options.data, options.size) if options.data else load_digits(options.size, options.seed)
    if not options.data:
        torch.set_num_threads(1)  # the digits are too small to divide among threads
    count = len(data.images)  # type: ignore[arg-type]
    if count < options.batch:
        raise InputError(f"--batch: expected at most {count}, the number of training images, got {options.batch}.")
    backbone, projector = build(options.model, data.train[0][0], options.projector, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone.to(device, memory_format=torch.channels_last)
    untrained = copy.deepcopy(backbone)
    model = nn.Sequential(backbone, projector.to(device))

    order = batches(count, options.batch, options.epochs, options.seed)
    loader = DataLoader(Views(data, options.seed), batch_sampler=order, num_workers=options.workers)
    steps = options.epochs * (count // options.batch)
    losses, matrices = pretrain(model, loader, steps, options.lr, getattr(options, "lambda"))
    with replacing(options.out / "backbone.safetensors") as file:
        file.write(safetensors.torch.save({name: x.contiguous() for name, x in backbone.state_dict().items()}))

    pixels = nn.Sequential(nn.AdaptiveAvgPool2d(PIXELS), nn.Flatten())
    models = {"raw pixels": pixels, "untrained backbone": untrained, "pretrained backbone": backbone}
    table = {name: evaluate(model, data, options.workers) for name, model in models.items()}
    print(f"{'Test accuracy':20}" + "".join(f"{kind:>22}" for kind in table["raw pixels"]))
    for name, row in table.items():
        print(f"{name:20}" + "".join(f"{accuracy:22.1%}" for accuracy in row.values()))
    draw(losses, matrices, options.out / "twins.png")
    written = {"options": vars(options), "loss": losses, "accuracy": table}
    with replacing(options.out / "metrics.json") as file:
        file.write(json.dumps(written, indent=1, default=str).encode() + b"\n")
    print(f"\nWritten to {options.out}/: backbone.safetensors, twins.png, and every figure as metrics.json")


def main(argv: Sequence[str] | None = None) -> None:
    """Run; after a mistake in the options, print one sentence and exit with status 2, and 1 where the system fails."""
    try:
        run(read_options(argv))
    except (InputError, OSError) as error:  # from a worker process its traceback comes before the message
        print(" ".join(str(error).rpartition("InputError: ")[2].split()), file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
