# SPDX-License-Identifier: MIT
"""What a node of a stage computes: the four operations that Xie et al. (2019) compare, each with its batch norm.

Enters: channels and a stride. Leaves: an ``nn.Sequential``, so that `fold_batch_norms` knows what follows what. None
has a relu: a stage puts it before its nodes, together with their sums.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from freewire.ops.gated_depthwise import is_changed

__all__ = ["AvgPoolConv", "Conv", "MaxPoolConv", "SeparableConv", "conv_bn", "fold_batch_norms", "initialise"]


def conv_bn(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> OrderedDict[str, nn.Module]:
    """A convolution that keeps the size at stride 1, and its batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels))


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of every channel by itself, then a 1x1 convolution, nothing between, then batch norm.

    Args:
        in_channels: Of x, ``[B, in_channels, H, W]``.
        out_channels: Of the result, ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``.
        stride: Of the 3x3 convolution.

    Example:
        >>> import torch
        >>> SeparableConv(8, 16, stride=2)(torch.rand(1, 8, 5, 5)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        super().__init__(OrderedDict(depthwise=depthwise, **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


class Conv(nn.Sequential):
    """A 3x3 convolution, then batch norm; arguments as `SeparableConv`'s."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(conv_bn(in_channels, out_channels, 3, stride))
        self.apply(initialise)


class MaxPoolConv(nn.Sequential):
    """The largest of 3x3, then a 1x1 convolution, then batch norm; arguments as `SeparableConv`'s."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(OrderedDict(pool=nn.MaxPool2d(3, stride, 1), **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


class AvgPoolConv(nn.Sequential):
    """The mean of 3x3 (less at the border), then a 1x1 convolution, then batch norm; arguments as `SeparableConv`'s."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        super().__init__(OrderedDict(pool=pool, **conv_bn(in_channels, out_channels, 1)))
        self.apply(initialise)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy for inference, with every batch norm that directly follows a convolution folded into it.

    Known to follow are neighbours in an ``nn.Sequential``, wherever in the module that is: torch's own types, without
    hooks and parametrisations. In exact arithmetic the results are those of ``module.eval()``.

    Args:
        module: Any; left as it is.

    Returns:
        The copy, in eval mode, its parameters without gradients.

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
        # Not named_children, which names a module once that runs twice. Names stay, for those who index.
        children = list(sequence._modules.items())
        for (name, conv), (bn_name, bn) in pairwise(children):
            if _can_fold(conv, bn):
                folded = fuse_conv_bn_eval(conv, bn)  # type: ignore[type-var, arg-type]
                setattr(sequence, name, folded.requires_grad_(False))
                setattr(sequence, bn_name, nn.Identity())
    return copy


def _can_fold(conv: nn.Module | None, bn: nn.Module | None) -> bool:
    """Whether both do what their types do, and nobody listens between them."""
    if type(conv) is not nn.Conv2d or type(bn) not in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return False
    assert bn is not None  # for the type checker
    changed = is_changed(conv) or is_changed(bn)
    return not changed and not is_parametrized(conv) and bn.running_mean is not None


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """He et al. (2015) for convolutions; a small start for classifiers, as Goyal et al. (2017) have it."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
