# SPDX-License-Identifier: MIT
"""Stages that run as one operator: where they do, all results are those of the plain steps.

Where they do not, although they are stages of separable convolutions, is in test_whole_stage_not_used.py.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from freewire.models import WS, GraphStage, RandWire
from freewire.models.blocks import fold_batch_norms
from freewire.models.whole_stage import WholeStageStep
from tests.models.stages import (
    assert_close,
    counted,
    images,
    norms_of,
    outcome,
    plain,
    small_world,
    stage_of,
    with_norms,
)
from tests.support.tensors import NARROW

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**options: Any) -> GraphStage:
    return with_norms(small_world(9, **options))


NORMS: dict[str, dict[str, object]] = {
    "usual": {},
    "momentum of None": {"momentum": None},
    "momentum of 0": {"momentum": 0.0},
    "large epsilon": {"eps": 0.5},
    "not tracked": {"track_running_stats": False},
    "not affine": {"affine": False},
    "neither": {"affine": False, "track_running_stats": False},
}


class TestSameResults:
    """Values, gradients and running statistics, in float64 to rounding."""

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    @pytest.mark.parametrize("norms", NORMS)
    def test_several_batches(self, norms: str, training: bool) -> None:
        stage = with_norms(make(), **NORMS[norms]).train(training)
        twin = plain(stage)
        with counted() as calls:
            for seed in range(3):
                x = images(seed=seed)
                assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 3)

    @pytest.mark.parametrize("norms", NORMS)
    def test_without_gradients(self, norms: str) -> None:
        """In training mode the norms use and track the statistics of the batch then, too."""
        stage = with_norms(make(), **NORMS[norms])
        twin = plain(stage)
        batch = not next(norms_of(stage)).track_running_stats
        for training in (True, False):
            for each in (stage, twin):
                each.train(training)
            with counted() as calls, torch.no_grad():
                for seed in range(2):
                    x = images(seed=seed)
                    assert_close([stage(x), *stage.buffers()], [twin(x), *twin.buffers()])
            assert calls() == ((0, 2) if training or batch else (2, 0))

    @pytest.mark.parametrize("nchw", [False, True])
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("stride", [1, 2, 3, 5])
    def test_strides_and_layouts(self, stride: int, relu: bool, nchw: bool) -> None:
        stage, x = make(stride=stride, relu=relu), images(nchw=nchw)
        with counted() as calls:
            found = outcome(stage, x)
        assert calls() == (0, 1)
        assert_close(found, outcome(plain(make(stride=stride, relu=relu)), x))
        own = torch.contiguous_format if nchw else torch.channels_last
        for training in (True, False):
            assert stage.train(training)(x).is_contiguous(memory_format=own)
            with torch.no_grad():
                assert stage(x).is_contiguous(memory_format=own)

    @pytest.mark.parametrize("layout", ["one channel", "one channel, last", "some channels"])
    def test_layouts_that_are_of_both_kinds(self, layout: str) -> None:
        """The result has the strides that torch's convolutions give it."""
        if layout == "some channels":
            stage, x = make(), images(3, 5, 8, 8)[:, :3]
        else:
            stage, x = with_norms(GraphStage(WS(4, 0.75)(9, 0), 1, 6).double()), images(3, 1, 8, 8)
            x = x.contiguous() if layout == "one channel" else x
        want = plain(stage)
        for each in (stage, want):
            each.eval()
        with torch.no_grad(), counted() as calls:
            assert stage(x).stride() == want(x).stride()
        assert calls() == (1, 0)

    def test_long_strides(self) -> None:
        """A window holds no more rows than there are."""
        stage, x = make(stride=2**40).eval(), images(1, 3, 4, 4)
        with torch.no_grad(), counted() as calls:
            assert_close([stage(x)], [plain(stage)(x)])
        assert calls() == (1, 0)
        assert_close(outcome(stage, x), outcome(plain(stage), x))

    def test_parallel_edges(self) -> None:
        x = images()
        for training in (True, False):
            stage = stage_of().train(training)
            with counted() as calls:
                assert_close(outcome(stage, x), outcome(plain(stage_of().train(training)), x))
                with torch.no_grad():
                    assert_close([stage(x)], [plain(stage)(x)])
            assert calls() == ((0, 2) if training else (1, 1))

    @pytest.mark.parametrize("edges", [[], [(0, 1)], [(0, 1), (1, 2), (2, 3)], [(0, 2), (1, 2), (0, 3)]])
    def test_small_graphs(self, edges: list[tuple[int, int]]) -> None:
        graph = nx.DiGraph(edges)
        graph.add_node(0)
        stage, x = GraphStage(graph, 3, 5, weight=0.3).double(), images()
        twin = plain(stage)
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 1)

    def test_edges_that_are_not_kept(self) -> None:
        stage, x = make(), images()
        kept = torch.rand(len(stage.weight), generator=torch.Generator().manual_seed(0)) < 0.6
        twin = plain(stage)
        with counted() as calls:
            found = outcome(stage, x, kept)
        assert calls() == (0, 1)
        assert not found[2][~kept].any()
        assert_close(found, outcome(twin, x, kept))

    def test_removed_edges(self) -> None:
        stage, x = make(), images()
        twin = plain(stage)
        with stage.without(edges=[0, 5, 6]), twin.without(edges=[0, 5, 6]), counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 1)

    def test_a_node_used_twice(self) -> None:
        """Its statistics would be updated twice by one call, so only inference runs as one operator."""
        stage, x = make(), images()
        inner = [i for i, node in enumerate(stage.nodes) if node.depthwise.weight.shape[0] == 6]
        stage.nodes[inner[1]] = stage.nodes[inner[0]]
        twin = plain(stage)
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
            assert calls() == (0, 0)
            with torch.no_grad():
                assert_close([stage.eval()(x)], [twin.eval()(x)])
            assert calls() == (1, 0)

    def test_convolutions_used_twice(self) -> None:
        stage, x = make(), images()
        inner = [node for node in stage.nodes if node.depthwise.weight.shape[0] == 6]
        inner[1].conv, inner[2].depthwise.weight = inner[0].conv, inner[0].depthwise.weight
        twin = plain(stage)
        with counted() as calls:
            assert_close(outcome(stage, x), outcome(twin, x))
        assert calls() == (0, 1)

    def test_states_are_interchangeable(self) -> None:
        stage, x = make(), images()
        twin = plain(make())
        twin.load_state_dict(stage.state_dict())
        outcome(twin, x)
        stage.load_state_dict(twin.state_dict())
        assert_close(outcome(stage, x), outcome(twin, x))
        assert stage.state_dict().keys() == twin.state_dict().keys()

    @pytest.mark.parametrize("bias", [False, True])
    def test_batch_norms_may_be_folded(self, bias: bool) -> None:
        """And in eval mode 1x1 convolutions may have a bias, which folding gives them."""
        stage, x = make(), images()
        if bias:
            for node in stage.nodes:
                node.conv.bias = nn.Parameter(torch.randn(6, dtype=torch.float64))
        want = plain(stage).eval()(x).detach()
        with counted() as calls, torch.no_grad():
            assert_close([stage.eval()(x), fold_batch_norms(stage)(x)], [want, want])
        assert calls() == (2, 0)

    def test_some_may_be_folded(self) -> None:
        stage, x = make().eval(), images()
        want = plain(stage)(x).detach()
        folded = fold_batch_norms(stage)
        stage.nodes[3] = folded.nodes[3]
        with counted() as calls, torch.no_grad():
            assert_close([stage(x)], [want])
        assert calls() == (1, 0)

    def test_a_model(self) -> None:
        torch.manual_seed(0)
        model, x = RandWire(WS(4, 0.75), 6, "small", num_classes=3).double().eval(), images(2, 3, 64, 64)
        with counted() as calls, torch.no_grad():
            found = [model(x), model.fuse()(x)]
        assert calls() == (2 * len(model.stages), 0)
        for i, stage in enumerate(model.stages):
            model.stages[i] = plain(stage)
        want = model(x).detach()
        assert_close(found, [want, want])

    @pytest.mark.parametrize("dtype", [torch.float32, *NARROW], ids=str)
    def test_other_types(self, dtype: torch.dtype) -> None:
        """No further from float64 than the plain steps are: these round as often, or more often."""
        for training in (True, False):
            stage = make(relu=False).to(dtype).train(training)  # a relu's gradient jumps where rounding decides
            for norm in list(norms_of(stage))[::2]:
                norm.momentum = None
            x = images().to(dtype)
            rough, exact = plain(stage), plain(stage).double()
            with counted() as calls:
                found = outcome(stage, x)
                with torch.no_grad():
                    found.append(stage.eval()(x))
            assert calls() == (1, 1)
            want, others = outcome(exact, x.double()), outcome(rough, x)
            with torch.no_grad():
                want.append(exact.eval()(x.double()))
                others.append(rough.eval()(x))
            for i, (got, wanted, other) in enumerate(zip(found, want, others, strict=True)):
                assert got.dtype == other.dtype
                size = wanted.double().norm().clamp(min=1)
                error, allowed = (((each.double() - wanted).norm() / size).item() for each in (got, other))
                assert error <= 2 * allowed + 4 * torch.finfo(dtype).eps, f"result {i}: {error:.3g} and {allowed:.3g}"


class TestAutograd:
    """What else may be done with a recorded call."""

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_gradients_of_some_leaves(self, training: bool) -> None:
        stage, x = make().train(training), images()
        twin = plain(stage)
        names = [name for name, _ in stage.named_parameters()]
        chosen = ["weight", names[1], next(n for n in names if n.endswith("conv.weight")), names[-1]]
        for leaf in ("x", *chosen):
            grads = []
            for each in (stage, twin):
                each.requires_grad_(False)
                given = x.clone(memory_format=torch.preserve_format).requires_grad_(leaf == "x")
                wanted = given if leaf == "x" else each.get_parameter(leaf).requires_grad_()
                grads.append(torch.autograd.grad(each(given).square().sum(), wanted)[0])
            assert_close(grads[:1], grads[1:])

    def test_gradients_that_are_differentiated_again(self) -> None:
        stage, x = make(), images().requires_grad_()
        found = []
        for each in (stage, plain(stage)):
            leaves = [x, *each.parameters()]
            grads = torch.autograd.grad(each(x).square().sum(), leaves, create_graph=True)
            penalty = sum(grad.square().sum() for grad in grads)
            found.append([*grads, *torch.autograd.grad(penalty, leaves)])
        for got, want in zip(*found, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_gradcheck_twice(self, training: bool) -> None:
        torch.manual_seed(0)
        stage = GraphStage(nx.DiGraph([(0, 1), (0, 2), (1, 2)]), 1, 2, stride=2).double().train(training)
        stage = with_norms(stage, eps=0.5)
        names, parameters = zip(*stage.named_parameters(), strict=True)
        leaves = [each.detach().requires_grad_() for each in (images(2, 1, 3, 2), *parameters)]

        def function(x: Tensor, *given: Tensor) -> Tensor:
            return torch.func.functional_call(stage, dict(zip(names, given, strict=True)), (x,))

        with counted() as calls:
            assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
            assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)
        assert calls()[1] > 10

    def test_a_batch_of_gradients_at_once(self) -> None:
        stage, x = make(), images().requires_grad_()
        leaves = [x, *stage.parameters()]
        y = stage(x)
        grads = torch.randn(3, *y.shape, dtype=torch.float64)
        found = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
        for i, grad in enumerate(grads):
            want = torch.autograd.grad(y, leaves, grad, retain_graph=True)
            assert_close([each[i] for each in found], list(want))

    def test_any_layout_of_the_gradient(self) -> None:
        stage, x = make(), images().requires_grad_()
        twin = plain(stage)
        grad_y = images(2, 6, 6, 5)
        for grad in (grad_y.contiguous(), grad_y[:1].expand(2, 6, 6, 5), grad_y[:, :1].expand(2, 6, 6, 5)):
            found = [torch.autograd.grad(each(x), [x, *each.parameters()], grad) for each in (stage, twin)]
            assert_close(*map(list, found))

    def test_gradients_reach_what_x_was_computed_from(self) -> None:
        stage, x = make(), images()
        before, after = nn.Conv2d(3, 3, 1).double(), nn.Conv2d(6, 2, 1).double()
        found = []
        for each in (stage, plain(stage)):
            y = after(each(before(x)))
            found.append(list(torch.autograd.grad(y.square().sum(), [*before.parameters(), *after.parameters()])))
        assert_close(*found)

    def test_hooks_on_parameters(self) -> None:
        stage, x, seen = make(), images(), []
        kernel = stage.nodes[4].conv.weight
        kernel.register_hook(lambda grad: seen.append(grad) or 2 * grad)
        with counted() as calls:
            stage(x).square().sum().backward()
        assert calls() == (0, 1)
        assert_close([kernel.grad], [2 * seen[0]])

    def test_one_map_per_node_is_kept(self) -> None:
        """Besides x and numbers that are as many as the parameters."""
        stage, x = make().to(torch.float32), images(4, 3, 32, 32).float()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = stage(x)
        maps = [t for t in kept if t.dim() == 4 and t.shape[0] == 4]
        assert len(maps) == 1 + len(stage.nodes)
        assert maps[0].data_ptr() == x.data_ptr()
        assert all(t.numel() == y.numel() * 16 // 6 for t in maps[1:])  # channels are padded
        others = sum(t.numel() for t in kept) - sum(t.numel() for t in maps)
        assert others <= sum(p.numel() for p in stage.parameters()) + sum(
            2 * len(norm.bias) for norm in norms_of(stage)
        )

    def test_kept_tensors_may_be_elsewhere(self) -> None:
        stage, x = make(), images()
        want = outcome(plain(stage), x)
        with torch.autograd.graph.save_on_cpu():
            assert_close(outcome(stage, x), want)

    @pytest.mark.parametrize("which", ["x", "depthwise", "conv"])
    def test_changes_between_forward_and_backward_raise(self, which: str) -> None:
        stage, x = make(), images()
        y = stage(x)
        with torch.no_grad():
            (x if which == "x" else getattr(stage.nodes[2], which).weight).add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_changes_of_what_is_copied_do_not_matter(self) -> None:
        """The edges' weights and the norms' parameters are few."""
        stage, x = make(), images()
        leaves = [stage.weight, *(norm.weight for norm in norms_of(stage))]
        want = torch.autograd.grad(stage(x).square().sum(), leaves)
        y = stage(x)
        with torch.no_grad():
            for leaf in leaves[1:]:
                leaf.add_(1.0)
        assert_close(list(torch.autograd.grad(y.square().sum(), leaves)), list(want))

    def test_checkpointed(self) -> None:
        """Statistics are tracked once: the second forward ends where the operator has returned its results."""
        stage, x = make(), images().requires_grad_()
        want = outcome(plain(stage), x)
        with counted() as calls:
            y = checkpoint(stage, x, use_reentrant=False)
            grads = torch.autograd.grad(y.square().sum() + y.sum(), [x, *stage.parameters()])
        assert calls() == (0, 2)
        assert_close([y.detach(), *grads, *stage.buffers()], want)

    def test_inference_mode(self) -> None:
        stage, x = make(), images()
        twin = plain(stage)
        for training, want in ((True, (0, 1)), (False, (1, 0))):
            with torch.inference_mode(), counted() as calls:
                y = stage.train(training)(x)
                assert_close([y, *stage.buffers()], [twin.train(training)(x), *twin.buffers()])
            assert calls() == want

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda stage: pickle.loads(pickle.dumps(stage))])
    def test_copies(self, copied: Callable[[GraphStage], GraphStage]) -> None:
        stage, x = make(), images()
        other = copied(stage)
        assert isinstance(other._steps[0], WholeStageStep)
        with counted() as calls:
            assert_close(outcome(other, x), outcome(stage, x))
        assert calls() == (0, 2)
