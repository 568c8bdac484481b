# SPDX-License-Identifier: MIT
"""Stages of separable convolutions that run node by node, since one operator would compute or show something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrizations, prune
from torch.testing._internal.two_tensor import TwoTensor

from freewire.errors import InputError
from freewire.models import Conv, GraphStage, SeparableConv
from freewire.models.blocks import AvgPoolConv, MaxPoolConv, fold_batch_norms
from freewire.models.steps import compile_steps
from tests.models.stages import assert_close, counted, images, norms_of, outcome, plain, small_world

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**options: Any) -> GraphStage:
    return small_world(7, **options)


class Marked(Tensor):
    """A subclass that computes as a tensor does."""


class OwnSeparableConv(SeparableConv):
    """A subclass that does nothing else."""


class OwnConv2d(nn.Conv2d):
    """A subclass that does nothing else."""


class OwnBatchNorm2d(nn.BatchNorm2d):
    """A subclass that does nothing else."""


def retyped(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind


def rebound(module: nn.Module) -> None:
    """As libraries do that offload weights."""
    module.forward = module.forward


def convolution(node: SeparableConv, **options: Any) -> None:
    channels = node.depthwise.in_channels
    given: dict[str, Any] = {"kernel_size": 3, "padding": 1, "groups": channels, "bias": False, **options}
    node.depthwise = nn.Conv2d(channels, channels, **given).double()


def other_convolution(node: SeparableConv, size: int, **options: int) -> None:
    node.conv = nn.Conv2d(6, 6, size, bias=False, **options).double()


def marked(module: nn.Module, name: str) -> None:
    setattr(module, name, nn.Parameter(getattr(module, name).detach().as_subclass(Marked)))


def unregistered(module: nn.Module, name: str, value: Tensor | None = None) -> None:
    """A tensor in place of a parameter."""
    value = getattr(module, name).detach().clone() if value is None else value
    delattr(module, name)
    setattr(module, name, value.requires_grad_())


#: What to do with one of the nodes that have in-edges, so that the stage runs node by node in every mode.
CHANGES: dict[str, Callable[[SeparableConv], object]] = {
    "a subclass of SeparableConv": lambda node: retyped(node, OwnSeparableConv),
    "a subclass of Conv2d": lambda node: retyped(node.depthwise, OwnConv2d),
    "another subclass of Conv2d": lambda node: retyped(node.conv, OwnConv2d),
    "a subclass of BatchNorm2d": lambda node: retyped(node.bn, OwnBatchNorm2d),
    "another norm": lambda node: setattr(node, "bn", nn.GroupNorm(2, 6).double()),
    "one more part": lambda node: node.append(nn.ReLU()),
    "one part less": lambda node: node.__delitem__(2),
    "a node's hook": lambda node: node.register_forward_hook(lambda *_: None),
    "a node's backward hook": lambda node: node.register_full_backward_hook(lambda *_: None),
    "a convolution's hook": lambda node: node.depthwise.register_forward_pre_hook(lambda *_: None),
    "a 1x1 convolution's hook": lambda node: node.conv.register_full_backward_pre_hook(lambda *_: None),
    "a norm's hook": lambda node: node.bn.register_forward_hook(lambda *_: None),
    "weight norm": lambda node: parametrizations.weight_norm(node.conv),
    "spectral norm": lambda node: parametrizations.spectral_norm(node.depthwise),
    "pruning": lambda node: prune.l1_unstructured(node.conv, "weight", 3),
    "another forward of a node": rebound,
    "another forward of a convolution": lambda node: rebound(node.conv),
    "another forward of a norm": lambda node: rebound(node.bn),
    "a compiled node": lambda node: node.compile(backend="eager"),
    "a compiled convolution": lambda node: node.depthwise.compile(backend="eager"),
    "a bias": lambda node: convolution(node, bias=True),
    "a kernel of 5": lambda node: convolution(node, kernel_size=5, padding=2),
    "dilation": lambda node: convolution(node, padding=2, dilation=2),
    "fewer groups": lambda node: convolution(node, groups=2),
    "same padding": lambda node: convolution(node, padding="same"),
    "circular padding": lambda node: convolution(node, padding_mode="circular"),
    "a 1x1 convolution in groups": lambda node: setattr(
        node, "conv", nn.Conv2d(6, 6, 1, groups=2, bias=False).double()
    ),
    "a 3x3 convolution": lambda node: setattr(node, "conv", nn.Conv2d(6, 6, 3, padding=1, bias=False).double()),
    "a subclass of Tensor as a kernel": lambda node: marked(node.conv, "weight"),
    "a subclass of Tensor in a norm": lambda node: marked(node.bn, "bias"),
    "a plain tensor as a norm's weight": lambda node: unregistered(node.bn, "weight"),
    "a plain tensor as a kernel": lambda node: unregistered(node.depthwise, "weight"),
    "a plain tensor as a bias": lambda node: unregistered(node.conv, "bias", torch.ones(6).double()),
}


def assert_node_by_node(stage: GraphStage, x: Tensor) -> None:
    """In training and in eval mode, with gradients and without; results are those of the plain steps."""
    steps, plain_steps = stage._steps, compile_steps(stage.graph, [])
    buffers = [buffer.clone() for buffer in stage.buffers()]
    for training in (True, False):
        stage.train(training)
        results = []
        for stage._steps in (steps, plain_steps):  # not a copy, which some changes do not allow
            for buffer, value in zip(stage.buffers(), buffers, strict=True):
                buffer.copy_(value)
            with counted() as calls:
                results.append(outcome(stage, x))
                with torch.no_grad():
                    results[-1].append(stage(x))
            assert calls() == (0, 0)
        assert_close(*results)


class TestModules:
    def test_without_a_change(self) -> None:
        """It does run as one operator, or the tests below would show nothing."""
        stage = make()
        with counted() as calls:
            outcome(stage, images())
            with torch.no_grad():
                stage.eval()(images())
        assert calls() == (1, 1)

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_node_that_has_changed(self, change: str) -> None:
        stage = make()
        node = next(node for node in stage.nodes if node.depthwise.in_channels == 6)
        CHANGES[change](node)
        assert_node_by_node(stage, images())

    def test_synchronised_norms(self) -> None:
        """Which compute on GPUs only, unless they are in eval mode."""
        stage, x = nn.SyncBatchNorm.convert_sync_batchnorm(make()).eval(), images()
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(plain(stage), x))
        assert calls() == (0, 0)

    @pytest.mark.parametrize("node", [Conv, MaxPoolConv, AvgPoolConv])
    def test_other_nodes(self, node: Callable[..., nn.Module]) -> None:
        assert_node_by_node(make(node=node), images())

    def test_different_strides(self) -> None:
        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            made = SeparableConv(in_channels, out_channels, stride)
            if in_channels == 3:
                made.depthwise.stride = (2, 1)
            return made

        assert_node_by_node(make(node=node), images())

    def test_strides_that_are_numbers(self) -> None:
        stage = make()
        for node in stage.nodes:
            (node.depthwise.stride,) = set(node.depthwise.stride)
        assert_node_by_node(stage, images())

    def test_nodes_of_different_channels(self) -> None:
        """Which a node with one source may receive."""
        chain = nx.DiGraph([(0, 1), (1, 2)])

        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            count = len(made)
            made.append(count)
            sizes = [(3, 8), (8, 5), (5, 6)][count]
            return SeparableConv(*sizes, stride)

        made: list[int] = []
        stage = GraphStage(chain, 3, 6, node=node).double()
        assert_node_by_node(stage, images())
        with torch.no_grad():
            assert fold_batch_norms(stage)(images()).shape == stage(images()).shape

    def test_results_that_cannot_be_summed(self) -> None:
        made = iter([(3, 6), (6, 6), (3, 5)])  # in the order in which the edges name the nodes
        stage = GraphStage(
            nx.DiGraph([(0, 2), (1, 2)]), 3, 6, node=lambda _, __, stride: SeparableConv(*next(made), stride)
        )
        with pytest.raises(InputError, match="node: expected results of one shape to be summed"):
            stage(images().float())

    @pytest.mark.parametrize("names", [("running_mean",), ("running_mean", "running_var")])
    def test_statistics_that_torch_refuses(self, names: tuple[str, ...]) -> None:
        """One of the two, or of another type than the parameters."""
        stage, x = make().eval(), images()
        for name in names:
            missing = len(names) == 1
            setattr(next(norms_of(stage)), name, None if missing else torch.ones(6, dtype=torch.float16))
        for each in (stage, plain(stage)):
            with torch.no_grad(), counted() as calls, pytest.raises(RuntimeError):
                each(x)
            assert calls() == (0, 0)

    def test_norms_of_different_modes(self) -> None:
        stage, x = make(), images()
        for i, node in enumerate(stage.nodes):
            node.bn.train(i % 2 == 0)
        twin = plain(stage)
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 0)

    def test_a_bias_where_gradients_are_needed(self) -> None:
        stage, x = make(), images()
        stage.nodes[4].conv.bias = nn.Parameter(torch.ones(6, dtype=torch.float64))
        with counted() as calls:
            for training in (True, False):
                twin = plain(stage.train(training))
                assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 0)

    def test_sums_that_are_not_to_be_recomputed(self) -> None:
        """The operator recomputes them. Without a backward there is nothing to recompute."""
        stage, x = make(recompute_sums=False), images()
        twin = plain(stage)
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
            assert calls() == (0, 0)
            with torch.no_grad():
                assert_close([stage.eval()(x)], [twin.eval()(x)])
            assert calls() == (1, 0)

    def test_removed_nodes(self) -> None:
        stage, x = make(), images()
        twin = plain(stage)
        with stage.without(nodes=[stage.graph.nodes[3]]), twin.without(nodes=[stage.graph.nodes[3]]):
            with counted() as calls:
                assert_close(outcome(stage, x), outcome(twin, x))
            assert calls() == (0, 0)

    def test_one_value_per_channel(self) -> None:
        """Torch's own error."""
        stage, x = make(), images(1, 3, 2, 2)
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
            stage(x)
        with counted() as calls:
            assert_close(outcome(stage.eval(), x), outcome(plain(stage), x))
        assert calls() == (0, 1)

    def test_no_image(self) -> None:
        stage, x = make().eval(), images(0, 3, 8, 8)
        with torch.no_grad():
            assert stage(x).shape == (0, 6, 4, 4)
        for got, want in zip(outcome(stage, x), outcome(plain(stage), x), strict=True):
            assert torch.equal(got, want)


REGISTER: dict[str, Callable[..., torch.utils.hooks.RemovableHandle]] = {
    "forward": torch_module.register_module_forward_hook,
    "forward pre": torch_module.register_module_forward_pre_hook,
    "full backward": torch_module.register_module_full_backward_hook,
    "full backward pre": torch_module.register_module_full_backward_pre_hook,
}


@pytest.mark.parametrize("kind", REGISTER)
def test_hooks_on_all_modules_see_every_module(kind: str) -> None:
    stage, x = make(), images()
    twin = plain(stage)
    seen: list[nn.Module] = []
    handle = REGISTER[kind](lambda module, *_: seen.append(module))
    try:
        with counted() as calls:
            found = outcome(stage, x)
    finally:
        handle.remove()
    assert calls() == (0, 0)
    assert set(seen) == {m for m in stage.modules() if not isinstance(m, nn.ModuleList)}
    assert_close(found, outcome(twin, x))


class TestTensors:
    def test_a_subclass(self) -> None:
        stage, x = make(), images()
        with counted() as calls:
            y = stage(TwoTensor(x, x))
            z = stage(x.as_subclass(Marked))
        assert calls() == (0, 0)
        assert_close([y.a, z.as_subclass(Tensor)], [plain(stage)(x)] * 2)

    def test_a_subclass_as_edge_weights(self) -> None:
        stage = make()
        stage.weight = nn.Parameter(stage.weight.detach().as_subclass(Marked))
        with counted() as calls:
            stage(images())
        assert calls() == (0, 0)

    def test_without_values(self) -> None:
        stage = make().to("meta")
        with counted() as calls:
            assert stage(images().to("meta")).shape == (2, 6, 6, 5)
        assert calls() == (0, 0)

    def test_types_that_differ(self) -> None:
        """Torch's own error."""
        with counted() as calls, pytest.raises(RuntimeError, match="type"):
            make()(images().float())
        assert calls() == (0, 0)

    def test_a_type_without_kernels(self) -> None:
        """Torch's own error."""
        stage = make()
        with counted() as calls, pytest.raises(RuntimeError):
            stage.to(torch.float8_e5m2)(images().to(torch.float8_e5m2))
        assert calls() == (0, 0)
