# SPDX-License-Identifier: MIT
"""freewire/models/blocks.py: shapes and sizes of the node operations, and batch norms folded into convolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from freewire.errors import InputError
from freewire.models import AvgPoolConv, Conv, MaxPoolConv, SeparableConv, fold_batch_norms
from tests.support.messages import assert_refused

OPERATIONS = {SeparableConv: 9 * 6 + 6 * 10, Conv: 9 * 6 * 10, MaxPoolConv: 6 * 10, AvgPoolConv: 6 * 10}


def lively(module: nn.Module) -> nn.Module:
    """Give batch norms parameters and statistics other than 0 and 1; eval mode, float64."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for values in (m.weight, m.bias, m.running_mean):
                nn.init.normal_(values)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module.double().eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
class TestOperations:
    def test_shape_and_size(self, operation: Callable[..., nn.Module], stride: int) -> None:
        node = operation(6, 10, stride)
        assert node(torch.randn(2, 6, 7, 4)).shape == (2, 10, *((7, 4) if stride == 1 else (4, 2)))
        assert sum(p.numel() for p in node.parameters()) == OPERATIONS[operation] + 2 * 10
        assert not any(isinstance(m, nn.ReLU) for m in node.modules())

    def test_numpys_integers(self, operation: Callable[..., nn.Module], stride: int) -> None:
        node = operation(np.int64(6), np.int32(10), np.int64(stride))
        assert repr(node) == repr(operation(6, 10, stride))
        for module in node.modules():
            for value in vars(module).values():
                parts = value if isinstance(value, tuple) else [value]
                assert not any(isinstance(part, np.generic) for part in parts)
        assert_refused(
            lambda: operation(6, 10, 0.5), "stride: expected a whole number of at least 1, got 0.5", InputError
        )

    def test_folding_changes_nothing(self, operation: Callable[..., nn.Module], stride: int) -> None:
        node = lively(operation(6, 10, stride))
        folded, x = fold_batch_norms(node), torch.randn(2, 6, 7, 4, dtype=torch.float64)
        torch.testing.assert_close(folded(x), node(x))
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        assert sum(isinstance(m, nn.BatchNorm2d) for m in node.modules()) == 1


def test_separable_conv_is_two_convolutions_and_a_batch_norm() -> None:
    node = lively(SeparableConv(3, 4))
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    y = F.conv2d(F.conv2d(x, node.depthwise.weight, padding=1, groups=3), node.conv.weight)
    torch.testing.assert_close(node(x), node.bn(y))


def test_average_pooling_does_not_count_padding() -> None:
    """A constant image stays constant."""
    pooled = AvgPoolConv(1, 1).pool(torch.ones(1, 1, 4, 4))
    assert torch.equal(pooled, torch.ones(1, 1, 4, 4))


class _Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class _Active(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def _shared_relu() -> nn.Sequential:
    relu = nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), relu, nn.Conv2d(4, 4, 1), relu, nn.BatchNorm2d(4))


def _hooked() -> nn.Sequential:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    module[1].register_forward_hook(_doubled)
    return module


def _doubled(module: nn.Module, inputs: object, y: Tensor) -> Tensor:
    return 2 * y


class _Indexed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.parts[2](self.parts[1](self.parts[0](x)))


AWKWARD = {
    "a subclass that convolves differently": lambda: nn.Sequential(_Standardised(3, 4, 1), nn.BatchNorm2d(4)),
    "a subclass that does more": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), _Active(4)),
    "a relu that runs twice": _shared_relu,
    "a hook": _hooked,
    "a parametrisation": lambda: nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)),
    "called by index": _Indexed,
}


@pytest.mark.parametrize("case", AWKWARD)
def test_folding_skips_what_it_does_not_know(case: str) -> None:
    module, x = lively(AWKWARD[case]()), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fold_batch_norms(module)(x), module(x))


def test_synchronised_batch_norms_are_folded() -> None:
    module = lively(nn.SyncBatchNorm.convert_sync_batchnorm(SeparableConv(3, 4)))
    folded = fold_batch_norms(module)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in folded.modules())


class TestFolding:
    def test_skips_batch_norms_that_do_not_follow_a_convolution(self) -> None:
        apart = lively(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten()))
        folded, x = fold_batch_norms(apart), torch.randn(2, 2, 3, 3, dtype=torch.float64)
        assert len(folded) == 4
        torch.testing.assert_close(folded(x), apart(x))

    def test_skips_batch_norms_without_statistics(self) -> None:
        module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
        folded, x = fold_batch_norms(module), torch.randn(2, 2, 3, 3)
        torch.testing.assert_close(folded(x), module(x))

    def test_skips_a_sequential_with_another_forward(self) -> None:
        class Backwards(nn.Sequential):
            def forward(self, x: Tensor) -> Tensor:
                return self[0](self[1](x))

        module = Backwards(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
        folded, x = fold_batch_norms(module), torch.randn(2, 3, 2, 2)
        assert torch.equal(folded(x), module(x))

    def test_the_original_is_not_modified(self) -> None:
        module = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)).train()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        folded = fold_batch_norms(module)
        assert module.training
        assert not folded.training
        assert all(p.requires_grad for p in module.parameters())
        assert not any(p.requires_grad for p in folded.parameters())
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])

    def test_biases_and_nesting(self) -> None:
        inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.BatchNorm2d(3), nn.ReLU())
        module = lively(nn.ModuleDict({"a": nn.Sequential(inner, nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))}))
        folded, x = fold_batch_norms(module), torch.randn(2, 3, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(folded["a"](x), module["a"](x))
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
