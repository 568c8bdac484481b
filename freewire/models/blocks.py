# SPDX-License-Identifier: MIT
"""Node factories: the four operations that Xie et al. (2019) compare, each followed by its batch norm.

Each is an ``nn.Sequential``, so that `fold_batch_norms` knows which batch norm follows which convolution. They have no
relu, since a stage applies one before its nodes, together with their sums.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from freewire.nn.checks import check_whole
from freewire.ops.gated_depthwise import is_changed

__all__ = [
    "AvgPoolConv",
    "Conv",
    "MaxPoolConv",
    "SeparableConv",
    "check_sizes",
    "conv_bn",
    "fold_batch_norms",
    "initialise",
]


def check_sizes(in_channels: int, out_channels: int, stride: int) -> tuple[int, int, int]:
    """Convert a node's arguments to int, numpy's integers among them; InputError unless they are at least 1."""
    in_channels = check_whole("in_channels", in_channels, 1, "Raise it.")
    out_channels = check_whole("out_channels", out_channels, 1, "Raise it.")
    return in_channels, out_channels, check_whole("stride", stride, 1, "Raise it.")


def conv_bn(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> OrderedDict[str, nn.Module]:
    """A convolution that keeps height and width at stride 1, and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels))


class SeparableConv(nn.Sequential):
    """A depthwise 3x3 convolution, a 1x1 convolution, then batch norm.

    Args:
        in_channels: Number of channels of x, ``[B, in_channels, H, W]``.
        out_channels: Number of channels of the result, ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``.
        stride: Stride of the 3x3 convolution.

    Example:
        >>> import torch
        >>> SeparableConv(8, 16, stride=2)(torch.rand(1, 8, 5, 5)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        in_channels, out_channels, stride = check_sizes(in_channels, out_channels, stride)
        depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        super().__init__(OrderedDict(depthwise=depthwise, **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


class Conv(nn.Sequential):
    """A 3x3 convolution, then batch norm; for the arguments see `SeparableConv`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        in_channels, out_channels, stride = check_sizes(in_channels, out_channels, stride)
        super().__init__(conv_bn(in_channels, out_channels, 3, stride))
        self.apply(initialise)


class MaxPoolConv(nn.Sequential):
    """3x3 max pooling, a 1x1 convolution, then batch norm; for the arguments see `SeparableConv`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        in_channels, out_channels, stride = check_sizes(in_channels, out_channels, stride)
        super().__init__(OrderedDict(pool=nn.MaxPool2d(3, stride, 1), **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


class AvgPoolConv(nn.Sequential):
    """3x3 average pooling that excludes padding, a 1x1 convolution, then batch norm; see `SeparableConv`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        in_channels, out_channels, stride = check_sizes(in_channels, out_channels, stride)
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        super().__init__(OrderedDict(pool=pool, **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Return a copy for inference, with every batch norm that directly follows a convolution folded into it.

    This folds neighbours in an ``nn.Sequential``, at any depth, if they have torch's own types and neither hooks nor
    parametrisations. In exact arithmetic the results are those of ``module.eval()``.

    Args:
        module: Any module; it is not modified.

    Returns:
        The copy in eval mode. Its parameters require no gradients.

    Example:
        >>> import torch
        >>> conv = SeparableConv(8, 16).eval()
        >>> folded, x = fold_batch_norms(conv), torch.rand(1, 8, 5, 5)
        >>> folded.bn, torch.allclose(folded(x), conv(x), atol=1e-6)
        (Identity(), True)
    """
    copy = deepcopy(module).eval().requires_grad_(False)
    for sequence in [m for m in copy.modules() if isinstance(m, nn.Sequential)]:
        if type(sequence).forward is not nn.Sequential.forward:
            continue
        # Not named_children, which skips a module that runs a second time. Names stay, for code that indexes.
        children = list(sequence._modules.items())
        for (name, conv), (bn_name, bn) in pairwise(children):
            if _can_fold(conv, bn):
                folded = fuse_conv_bn_eval(conv, bn)  # type: ignore[type-var, arg-type]
                setattr(sequence, name, folded.requires_grad_(False))
                setattr(sequence, bn_name, nn.Identity())
    return copy


def _can_fold(conv: nn.Module | None, bn: nn.Module | None) -> bool:
    """Whether both behave as their types do, and no hook sees what is between them."""
    if type(conv) is not nn.Conv2d or type(bn) not in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return False
    assert bn is not None  # for the type checker
    changed = is_changed(conv) or is_changed(bn)
    return not changed and not is_parametrized(conv) and bn.running_mean is not None


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Initialise a convolution as He et al. (2015), and a linear layer with small weights as Goyal et al. (2017)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
