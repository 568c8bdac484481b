# SPDX-License-Identifier: MIT
"""The order of images, and how it is shared out; the recipe's presets and options; counted accuracies."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re

import numpy as np
import pytest
import torch

from freewire.errors import InputError
from tests.support.messages import assert_refused


def one_process(lib):
    return lib.parallel.World(0, 1, 1, torch.device("cpu"))


class TestOrder:
    def test_is_the_same_everywhere(self, lib):
        """A run may go on with another version of numpy, or on another machine."""
        order = lib.order.permutation(1000, seed=3, epoch=7)
        assert sorted(order.tolist()) == list(range(1000))
        assert order[:8].tolist() == [400, 895, 829, 177, 767, 752, 308, 840]
        assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == "2a0e0f37b0c182ae"

    def test_depends_on_seed_and_epoch(self, lib):
        orders = [tuple(lib.order.permutation(50, seed, epoch)) for seed in range(3) for epoch in range(3)]
        assert len(set(orders)) == 9
        assert len({lib.order.derive(*numbers) for numbers in itertools.permutations((0, 1, 2))}) == 6

    @pytest.mark.parametrize("processes", [1, 2, 3, 6])
    def test_any_number_of_processes_sees_the_same_micro_batches(self, lib, processes):
        schedule = lib.order.Schedule(images=50, batch=24, micro_batch=4, epochs=3, processes=processes).check()
        assert (schedule.steps, schedule.passes) == (6, 6 // processes)
        shares = [list(lib.order.MicroBatches(schedule, 5, rank)) for rank in range(processes)]
        together = [part for turn in zip(*shares, strict=True) for part in turn]
        alone = lib.order.Schedule(50, 24, 4, 3, 1)
        assert together == list(lib.order.MicroBatches(alone, 5))
        for epoch in range(3):
            seen = [sample.index for part in together for sample in part if sample.epoch == epoch]
            assert seen == lib.order.permutation(50, 5, epoch)[:48].tolist()

    @pytest.mark.parametrize("start", [1, 2, 5, 6])
    def test_begins_at_any_step(self, lib, start):
        schedule = lib.order.Schedule(50, 24, 4, 3, 2)
        every = list(lib.order.MicroBatches(schedule, 5, 1))
        late = lib.order.MicroBatches(schedule, 5, 1, start)
        assert list(late) == every[3 * start :]
        assert len(late) == len(every) - 3 * start

    @pytest.mark.parametrize(
        ("images", "batch", "processes"), [(10, 4, 1), (11, 4, 3), (12, 4, 3), (13, 2, 6), (3, 1, 3)]
    )
    def test_validation_sees_every_image_once(self, lib, images, batch, processes):
        shares = [list(lib.order.EveryImage(images, batch, rank, processes)) for rank in range(processes)]
        assert sorted(sample.index for share in shares for part in share for sample in part) == list(range(images))
        assert len({len(share) for share in shares}) == 1  # as many forward passes
        assert all(0 < len(part) <= max(batch, 2) for share in shares for part in share)
        assert len(lib.order.EveryImage(images, batch, 0, processes)) == len(shares[0])

    def test_what_cannot_be_divided(self, lib):
        schedule = lib.order.Schedule(images=100, batch=32, micro_batch=8, epochs=1, processes=1)
        for changes, match in (
            ({"images": 31}, "--batch: expected at most 31, the number of training images, got 32"),
            ({"micro_batch": 12}, "--micro-batch: expected a divisor of the batch, 32, got 12"),
            ({"processes": 3}, "processes: expected a divisor of 4, .*got 3. Start 1 or 2 or 4 processes"),
            ({"processes": 8}, "processes: expected a divisor of 4, .*got 8"),
        ):
            assert_refused(schedule._replace(**changes).check, match, InputError)
        assert_refused(lambda: lib.order.EveryImage(2, 8, 0, 3), "images: expected at least one validation", InputError)


class TestRecipe:
    def parse(self, lib, *arguments, cuda=False):
        return lib.recipe.parse(["data", *arguments], cuda, lambda path: pytest.fail("nothing is evaluated"))

    def test_presets_are_those_of_the_paper(self, lib):
        small, regular = (self.parse(lib, "--preset", name)[0] for name in ("small", "regular"))
        for recipe in (small, regular):
            assert (recipe.lr, recipe.batch, recipe.momentum, recipe.weight_decay) == (0.1, 256, 0.9, 5e-5)
            assert (recipe.label_smoothing, recipe.image_size, recipe.test_crop) == (0.1, 224, 0.875)
            assert (recipe.min_scale, recipe.flip, recipe.ema) == (0.08, True, 0)
        assert (small.model, small.epochs) == ("randwire_ws_small", 250)
        assert (regular.model, regular.epochs) == ("randwire_ws_regular109", 100)

    def test_another_model_has_the_same_recipe(self, lib):
        """That is the comparison of the paper."""
        ours, theirs = self.parse(lib)[0], self.parse(lib, "--model", "resnet50")[0]
        assert dataclasses.replace(theirs, model=ours.model) == ours
        assert self.parse(lib, "--preset", "tiny", "--model", "resnet50")[0].model_options == {}

    def test_the_learning_rate(self, lib):
        recipe = self.parse(lib, "--epochs", "20", "--batch", "512", "--warmup-epochs", "5")[0]
        assert recipe.lr == pytest.approx(0.2)  # in proportion to the batch
        rates = [recipe.learning_rate(step, 10) for step in range(200)]
        assert rates[:50] == pytest.approx(np.linspace(0, 0.2, 50, endpoint=False))
        assert rates[50:] == pytest.approx(0.1 * (1 + np.cos(np.pi * np.arange(50, 200) / 200)))
        assert self.parse(lib, "--batch", "512", "--lr", "0.3")[0].lr == 0.3

    def test_options(self, lib):
        recipe, options = self.parse(
            lib, "--model-options", "channels=24", "seed=3", "norm=a=b", "size=(3, 4)", cuda=True
        )
        assert recipe.model_options == {"channels": 24, "seed": 3, "norm": "a=b", "size": [3, 4]}
        assert (recipe.precision, options.device) == ("bf16", "cuda")
        assert (options.train, options.val) == ("data/train", "data/val")
        recipe, options = self.parse(lib, "--val", "x-{0..9}.tar", "--preset", "tiny", "--model-options", "seed=1")
        assert (recipe.precision, options.device, options.val) == ("fp32", "cpu", "x-{0..9}.tar")
        assert recipe.model_options == {"channels": 24, "seed": 1}

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ("--epochs 0", "--epochs: expected 1 or more, got 0"),
            ("--keep 0", "--keep: expected 1 or more, got 0"),
            ("--workers -1", "--workers: expected 0 or more, got -1"),
            ("--lr nan", "--lr: expected more than 0, got nan"),
            ("--lr inf", "--lr: expected more than 0, got inf"),
            ("--weight-decay nan", "--weight-decay: expected 0 or more, got nan"),
            ("--ema 1", "--ema: expected at least 0 and below 1, got 1.0"),
            ("--test-crop 1.5", "--test-crop: expected more than 0 and at most 1, got 1.5"),
            ("--warmup-epochs 250", "--warmup-epochs: expected fewer than the 250 epochs, got 250.0"),
            ("--model-options 3=4", "--model-options: expected NAME=VALUE, got '3=4'"),
            ("--model-options seed", "--model-options: expected NAME=VALUE, got 'seed'"),
            ("--model-options seed={1,2}", "--model-options: expected values that JSON can express, got 'seed={1,2}'"),
        ],
    )
    def test_out_of_range(self, lib, arguments, match):
        with pytest.raises(InputError, match=re.escape(match)):
            self.parse(lib, *arguments.split())

    def test_no_images(self, lib):
        with pytest.raises(InputError, match=r"train: expected images, got none\. Name the folder"):
            lib.recipe.parse(["--val", "x"], False, pytest.fail)

    def test_differences_are_named(self, lib):
        recipe = lib.recipe.Recipe()
        stored = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(recipe, lr=0.5))))
        assert recipe.differences(stored) == ["lr: 0.5 there, 0.1 here"]
        del stored["ema"]
        assert recipe.differences(stored) == ["ema: None there, 0.0 here", "lr: 0.5 there, 0.1 here"]


class TestCounts:
    def test_by_hand(self, lib):
        """Class 0 has four images, class 1 two, class 2 none: a class without images does not count as wrong."""
        counts = lib.metrics.Counts(7, torch.device("cpu"))
        scores = torch.arange(7.0).repeat(6, 1)  # class 6 first, class 2 fifth, classes 1 and 0 behind
        scores[:3, 0] = 9.0
        labels = torch.tensor([0, 0, 0, 0, 1, 6])
        counts.add(scores[:2], labels[:2])
        counts.add(scores[2:], labels[2:])
        figures = counts.figures(one_process(lib))
        assert figures.images == 6
        assert figures.top1 == pytest.approx(4 / 6)
        assert figures.top5 == pytest.approx(4 / 6)
        assert figures.balanced == pytest.approx((3 / 4 + 0 + 1) / 3)
        assert figures.loss == pytest.approx(torch.nn.functional.cross_entropy(scores, labels).item())
        counts.reset()
        counts.add(scores[3:4], torch.tensor([2]))
        assert counts.figures(one_process(lib))[1:] == (0.0, 1.0, 0.0, 1)

    def test_few_classes_and_no_images(self, lib):
        counts = lib.metrics.Counts(3, torch.device("cpu"))
        counts.add(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
        counts.add(torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16), torch.tensor([0]))
        assert counts.figures(one_process(lib))[1:] == (0.0, 1.0, 0.0, 1)
