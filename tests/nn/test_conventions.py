# SPDX-License-Identifier: MIT
"""What torch expects of a module: state_dicts, copies, moves, parametrizations, checkpointing, autocast."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import assert_same_bits, gradients, network, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


class Doubled(nn.Module):
    """A parametrization: the parameter doubled."""

    def forward(self, parameter: torch.Tensor) -> torch.Tensor:
        return 2 * parameter


@pytest.mark.usefixtures("header")
class TestConventions:
    def test_state_dict_round_trip(self) -> None:
        net, other = network(GRAPH, seed=1), network(GRAPH, seed=2)
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        x = x_of(net, 3)
        assert_same_bits([net(x)], [other(x)])
        assert set(net.state_dict()) == {"weight", "bias", "_extra_state"}

    def test_a_state_dict_of_another_wiring_is_refused_untouched(self) -> None:
        src, dst = GRAPH.edge_index
        rewired = fw.Graph.from_edges(
            src, dst, num_nodes=GRAPH.num_nodes, inputs=GRAPH.input_index, outputs=GRAPH.output_index, activation="tanh"
        )
        net, other = network(GRAPH), fw.Network(rewired, dtype=torch.float64)
        assert net.weight.shape == other.weight.shape
        before = other.weight.detach().clone()
        with pytest.raises(
            fw.InputError, match="state_dict: expected that of a network with this wiring, got that of another"
        ):
            other.load_state_dict(net.state_dict())
        outer = nn.Sequential(other)
        with pytest.raises(fw.InputError, match="state_dict: expected that of a network with this wiring"):
            outer.load_state_dict({f"0.{k}": v for k, v in net.state_dict().items()})
        assert_same_bits([before], [other.weight.detach()])

    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
    def test_copies(self, how: str) -> None:
        net = network(CASES["mixed_aggregations"])
        net.activations(x_of(net, 1))
        if how == "deepcopy":
            other = copy.deepcopy(net)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(net))
        else:
            file = io.BytesIO()
            torch.save(net, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        x = x_of(net, 3)
        assert_same_bits([net(x), *net.activations(x).values()], [other(x), *other.activations(x).values()])
        with torch.no_grad():
            other.weight.zero_()
        assert net.weight.any()

    def test_to(self) -> None:
        net = network(GRAPH, torch.float32)
        assert net.double()(x_of(net, 2).double()).dtype == torch.float64
        assert net.to(torch.float32)(x_of(net, 2)).dtype == torch.float32
        assert net.to("cpu") is net

    @pytest.mark.parametrize("route", ["meta then to_empty", "skip_init", "device argument"])
    def test_the_plan_survives_empty_memory(self, route: str) -> None:
        if route == "skip_init":
            net = nn.utils.skip_init(fw.Network, GRAPH, dtype=torch.float64)
        else:
            net = fw.Network(GRAPH, device="meta", dtype=torch.float64)
            assert net(torch.empty(3, 9, device="meta", dtype=torch.float64)).shape == (3, 5)
            net = (
                net.to_empty(device="cpu")
                if route == "meta then to_empty"
                else fw.Network(GRAPH, device="cpu", dtype=torch.float64)
            )
        net.reset_parameters()
        x = x_of(net, 3)
        torch.testing.assert_close(net(x), fw.reference(net, x))

    def test_parameters_replaced_by_assignment(self) -> None:
        """What was built on meta and given real weights computes with them, and never returns raw memory."""
        net, empty = network(GRAPH), fw.Network(GRAPH, device="meta", dtype=torch.float64)
        empty.load_state_dict(net.state_dict(), assign=True)
        x = x_of(net, 4)
        assert_same_bits([net(x), *net.activations(x).values()], [empty(x), *empty.activations(x).values()])

    def test_training_after_moves_in_inference_mode(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 3)
        with torch.inference_mode():
            net.to("cpu").double()
            net.activations(x)
        net(x).sum().backward()
        next(reversed(net.activations(x).values())).sum().backward()

    def test_weight_norm(self) -> None:
        net = nn.utils.parametrizations.weight_norm(network(GRAPH), dim=None)
        y = net(x_of(net, 3))
        y.sum().backward()
        assert net.parametrizations.weight.original1.grad.any()

    @pytest.mark.parametrize("name", ["weight", "bias"])
    def test_parametrizations(self, name: str) -> None:
        net = network(GRAPH)
        x = x_of(net, 3)
        want = torch.func.functional_call(net, {name: 2 * getattr(net, name).detach()}, (x,))
        nn.utils.parametrize.register_parametrization(net, name, Doubled())
        y = net(x)
        y.sum().backward()
        assert net.parametrizations[name].original.grad.any()
        with torch.no_grad():
            assert_same_bits([y, net(x)], [want, want])

    def test_gradients_accumulate_and_clip_as_usual(self) -> None:
        net = network(GRAPH, torch.float32)
        x = x_of(net, 8)
        net(x).sum().backward()
        once = net.weight.grad.clone()
        net(x).sum().backward()
        torch.testing.assert_close(net.weight.grad, 2 * once)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_checkpoint_gives_the_same_bits(self, case: str) -> None:
        net, lean = network(CASES[case]), network(CASES[case], checkpoint=True)
        x = x_of(net, 70)
        grad_y = torch.randn(70, len(net.graph.outputs), dtype=torch.float64)
        assert_same_bits(gradients(net, net, x, grad_y), gradients(lean, lean, x, grad_y))

    def test_checkpoint_keeps_no_tape(self) -> None:
        kept = []
        for checkpoint in (False, True):
            net = network(GRAPH, torch.float32, checkpoint=checkpoint)
            sizes: list[int] = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
                net(x_of(net, 1000))
            kept.append(max(sizes))
        assert kept[0] >= GRAPH.reaches_output.sum() * 1000  # the tape
        assert kept[1] <= max(9 * 1000, GRAPH.num_edges, net._placed.words.numel())

    @pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
    def test_autocast(self, target: torch.dtype) -> None:
        """As nn.Linear: x and parameters are cast, float64 is not, and gradients come back in their own type."""
        net = network(GRAPH, torch.float32)
        x = x_of(net, 6).requires_grad_()
        with torch.autocast("cpu", dtype=target):
            y = net(x)
            narrow_input = net(x.to(target))
            values = net.activations(x)
        narrow = copy.deepcopy(net).to(target)
        assert_same_bits([y, narrow_input], [narrow(x.to(target))] * 2)
        assert {value.dtype for value in values.values()} == {target}
        y.float().sum().backward()
        narrow(x.to(target)).float().sum().backward()
        assert (x.grad.dtype, net.weight.grad.dtype) == (torch.float32, torch.float32)
        assert_same_bits([net.weight.grad, net.bias.grad], [p.grad.float() for p in narrow.parameters()])

    def test_autocast_does_not_cast_float64(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 6)
        want = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_same_bits([net(x)], [want])
            with pytest.raises(fw.InputError, match=r"x: expected torch\.float64, .* got torch\.float32"):
                net(x.float())
