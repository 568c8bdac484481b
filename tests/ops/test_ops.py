# SPDX-License-Identifier: MIT
"""The operators of networks, over device x type x the shared case list: values, gradients, opcheck, bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.plan import make_plan
from tests.conftest import DEVICES, SHIM
from tests.support.graphs import CASES, SMOOTH_ACTIVATIONS, SMOOTH_AGGREGATIONS, graphs
from tests.support.tensors import (
    BATCHES,
    DTYPES,
    NARROW,
    assert_matches_reference,
    assert_same_bits,
    assert_threads_change_no_bit,
    assert_within,
    batch_of,
    exact,
    gradients,
    network,
    stored_as,
)

ROW_BYTES = (64, 128, 256)
#: The 16-bit types differ only where numbers are read and written, for which one batch of several tiles is enough.
VARIANTS = [(d, b) for d in DTYPES for b in (BATCHES if d not in NARROW else (130,))]

#: Graphs that run at every batch on the shim.
FEW = ("random", "mixed_aggregations")


def matrix() -> list[Any]:
    """Device, case, type and batch of each run: all of them, but on the shim few of the batches.

    There every graph runs in every type at one batch, and two graphs at the batches that are handled differently.
    """

    def runs(device: str, case: str, batch: int) -> bool:
        return device not in SHIM or batch in (33, 130) or (batch != 1 and case in FEW)

    return [
        pytest.param(device, case, *variant, id="-".join(map(str, (device, case, *variant))))
        for device in DEVICES
        for case in CASES
        for variant in VARIANTS
        if runs(device, case, variant[1])
    ]


everywhere = pytest.mark.parametrize(("device", "case", "dtype", "batch"), matrix(), indirect=["device"])


def raw(net: fw.Network, x: Tensor, grad_y: Tensor, row_bytes: int) -> list[Tensor]:
    """y and the gradients through the raw operators, with a chosen width of tape rows."""
    plan = make_plan(net.graph, row_bytes=row_bytes)
    packed = plan.pack()
    words, header = torch.from_numpy(packed.words).to(x.device), None if x.device.type == "cpu" else packed.header
    weight, bias = net.weight.detach(), net.bias.detach()
    y, tape = torch.ops.freewire.forward(x, weight, bias, words, header, plan.num_outputs, plan.tape_rows)
    grads = torch.ops.freewire.backward(grad_y, tape, weight, words, header, plan.num_inputs, len(bias), True, True)
    return [y, *grads]


class TestForward:
    @everywhere
    def test_matches_the_reference(self, device: str, case: str, dtype: torch.dtype, batch: int) -> None:
        net = network(CASES[case], dtype).to(device)
        x, _ = batch_of(net, batch)
        with torch.no_grad():
            y, plain = net(x), fw.reference(net, x)
            with stored_as(dtype):
                want = fw.reference(net, x.double())
        assert_within(y, want, plain, "y")

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_row_width_gives_the_same_bits(self, device: str, dtype: torch.dtype) -> None:
        net = network(CASES["random"], dtype).to(device)
        x, grad_y = batch_of(net, 130)
        with torch.no_grad():
            results = [raw(net, x, grad_y, width)[:2] for width in ROW_BYTES]
        assert_same_bits(results[0], results[1])
        assert_same_bits(results[0], results[2])

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_activations_point_by_point(self, device: str, dtype: torch.dtype) -> None:
        """Each activation over 20 decades, both signs, the special values, and the kinks."""
        count = len(ACTIVATIONS)
        graph = fw.Graph.from_edges(
            [0] * count, range(1, count + 1), weight=[1.0] * count, activation=["linear", *ACTIVATIONS]
        )
        net = fw.Network(graph, dtype=dtype).to(device)
        sizes = torch.logspace(-12, 4, 4001, dtype=torch.float64)
        special = torch.tensor([0.0, 1, 3, 20, 6, 88, 89, 104, 1e30, float("inf")], dtype=torch.float64)
        x = torch.cat((sizes, -sizes, special, -special)).to(dtype)[:, None].to(device)
        with torch.no_grad():
            y, plain, want = net(x), fw.reference(net, x), fw.reference(net, x.double())
        for code, name in enumerate(ACTIVATIONS):
            got, exactly = y[:, code].double(), want[:, code]
            exactly = exactly.to(dtype).double()  # overflow where the type overflows
            assert torch.equal(got.isnan(), exactly.isnan()), name
            assert torch.equal(got[got.isinf()], exactly[got.isinf()]), name
            finite = exactly.isfinite()
            # gelu's own formula, torch's too, loses the digits of 1 + erf(z) at negative z, in proportion to z.
            unit = (x[finite, 0].double().abs() if name == "gelu" else exactly[finite].abs()).clamp(min=1e-30)
            error, inherent = (
                ((v - exactly)[finite].abs() / unit).max().item() for v in (got, plain[:, code].double())
            )
            # torch's own rounding is allowed for: exp(-z * z) at z = 10 enlarges that of z * z a hundredfold.
            allowed = 8 * torch.finfo(dtype).eps + 2 * inherent
            assert error <= allowed, f"{name}: relative error {error:.3g}, allowed {allowed:.3g}"

    @pytest.mark.parametrize("factor", [1.0, 1.0 + 2**-7, 2 / 3, -(2.0**-9), 3e-5])
    @pytest.mark.parametrize("dtype", NARROW, ids=str)
    def test_16_bits_are_rounded_once_and_to_the_nearest(self, device: str, dtype: torch.dtype, factor: float) -> None:
        """Every number there is, times a factor: exact in float32, then one rounding, ties to even."""
        net = fw.Network(fw.Graph.from_edges([0], [1]), bias=False, init=lambda w, _: w.fill_(factor), dtype=dtype)
        numbers = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)[:, None]
        want = (numbers.float() * net.weight.detach().float()).to(dtype)
        with torch.no_grad():
            got = net.to(device)(numbers.to(device)).cpu()
        assert ((got == want) | (got.isnan() & want.isnan())).all()

    @pytest.mark.parametrize("aggregation", AGGREGATIONS)
    def test_nan_propagates(self, device: str, aggregation: str) -> None:
        graph = fw.Graph.from_edges([0, 1, 2], [3, 3, 3], aggregation=aggregation, output_activation="relu")
        net = network(graph).to(device)
        x = torch.randn(5, 3, dtype=torch.float64)
        x[2, 1] = float("nan")
        assert torch.equal(net(x.to(device)).isnan().any(1).cpu(), torch.tensor([False, False, True, False, False]))

    def test_the_tape_is_made_only_when_asked_for(self, device: str) -> None:
        net = network(CASES["random"]).to(device)
        x, _ = batch_of(net, 33)
        (words, header, *_), bias = net._placed, net.bias
        call = torch.ops.freewire.forward
        y, tape = call(x, net.weight, bias, words, header, net.plan.num_outputs, 0)
        kept_y, kept = call(x, net.weight, bias, words, header, net.plan.num_outputs, net.plan.tape_rows)
        alone = torch.ops.freewire.inference(x, net.weight, bias, words, header, net.plan.num_outputs)
        assert tape.numel() == 0
        assert kept.numel() == net.plan.tape_bytes(33, 8) // 8
        assert_same_bits([y, alone], [kept_y, kept_y])

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "dead", "no_edges"])
    @pytest.mark.parametrize("keep", [False, True])
    def test_opcheck(self, device: str, case: str, keep: bool) -> None:
        net = network(CASES[case]).to(device)
        x, _ = batch_of(net, 5)
        words, header, _, num_outputs, tape_rows, *_ = net._placed
        arguments = (x, net.weight.detach(), net.bias.detach(), words, header, num_outputs)
        if keep:
            torch.library.opcheck(torch.ops.freewire.forward.default, (*arguments, tape_rows))
        else:
            torch.library.opcheck(torch.ops.freewire.inference.default, arguments)

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "no_edges"])
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_opcheck_of_the_recorded_operator(self, device: str, case: str, checkpoint: bool) -> None:
        """`freewire::network`, which exported programs call, has autograd of its own."""
        net = network(CASES[case]).to(device)
        x, _ = batch_of(net, 5)
        words, header, _, num_outputs, tape_rows, *_ = net._placed
        op = torch.ops.freewire.network.default
        arguments = (x.requires_grad_(), net.weight, net.bias, words, header, num_outputs, tape_rows, checkpoint)
        assert_same_bits([op(*arguments).detach()], [net(x).detach()])
        torch.library.opcheck(op, arguments)


class TestBackward:
    @everywhere
    def test_matches_autograd_of_the_reference(self, device: str, case: str, dtype: torch.dtype, batch: int) -> None:
        net = network(CASES[case], dtype).to(device)
        assert_matches_reference(net, *batch_of(net, batch))

    @pytest.mark.parametrize("row_bytes", ROW_BYTES)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "all_activations", "fan_in_33"])
    def test_every_row_width(self, device: str, case: str, dtype: torch.dtype, row_bytes: int) -> None:
        net = network(CASES[case], dtype).to(device)
        x, grad_y = batch_of(net, 67)
        plain = gradients(lambda x: fw.reference(net, x), net, x, grad_y)
        for name, got, want, rough in zip(
            ("y", "grad_x", "grad_weight", "grad_bias"),
            raw(net, x, grad_y, row_bytes),
            exact(net, x, grad_y),
            plain,
            strict=True,
        ):
            assert_within(got, want, rough, name)

    @pytest.mark.parametrize("case", sorted(set(CASES) - {"fan_in_1000", "chain", "random"}))
    def test_gradcheck(self, device: str, case: str) -> None:
        graph = smooth(CASES[case])
        net = network(graph).to(device)
        x, _ = batch_of(net, 3)

        def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return torch.func.functional_call(net, {"weight": weight, "bias": bias}, (x,))

        inputs = tuple(t.detach().requires_grad_() for t in (x, net.weight, net.bias))
        assert torch.autograd.gradcheck(run, inputs, check_batched_grad=True)

    @settings(max_examples=60)
    @given(graph=graphs(), batch=st.integers(0, 40), seed=st.integers(0, 2**31))
    def test_any_graph(self, device: str, graph: fw.Graph, batch: int, seed: int) -> None:
        net = network(graph, seed=seed).to(device)
        assert_matches_reference(net, *batch_of(net, batch, seed))

    @pytest.mark.parametrize(
        ("device", "case", "batch"),
        [(d, c, 33 if d in SHIM and c not in FEW else 1025) for d in DEVICES for c in CASES],
        indirect=["device"],
    )
    def test_a_second_run_gives_the_same_bits(self, device: str, case: str, batch: int) -> None:
        net = network(CASES[case], torch.float32).to(device)
        x, grad_y = batch_of(net, batch)
        assert_same_bits(gradients(net, net, x, grad_y), gradients(net, net, x, grad_y))

    @pytest.mark.parametrize("batch", [1, 17, 300, 1025])
    def test_one_thread_and_two_give_the_same_bits(self, device: str, batch: int) -> None:
        net = network(CASES["random"], torch.float32).to(device)
        x, grad_y = batch_of(net, batch)
        assert_threads_change_no_bit(2, lambda: gradients(net, net, x, grad_y))

    @pytest.mark.parametrize("aggregation", ["max", "min", "maxabs"])
    def test_on_a_tie_the_first_edge_takes_the_gradient(self, device: str, aggregation: str) -> None:
        graph = fw.Graph.from_edges([0, 0, 1], [2, 2, 2], weight=[1.0, 1.0, 1.0], aggregation=aggregation)
        net = fw.Network(graph, dtype=torch.float64).to(device)
        x = torch.ones(4, 2, dtype=torch.float64, device=device, requires_grad=True)
        net(x).sum().backward()
        assert net.weight.grad.tolist() == [4.0, 0.0, 0.0]
        assert x.grad.tolist() == [[1.0, 0.0]] * 4

    def test_product_does_not_divide(self, device: str) -> None:
        graph = fw.Graph.from_edges([0, 1, 2], [3, 3, 3], weight=[1.0, 2.0, 3.0], aggregation="product")
        net = fw.Network(graph, dtype=torch.float64).to(device)
        x = torch.tensor([[0.0, 5.0, 7.0], [0.0, 0.0, 7.0]], dtype=torch.float64, device=device, requires_grad=True)
        net(x).sum().backward()
        assert x.grad.tolist() == [[210.0, 0.0, 0.0], [0.0, 0.0, 0.0]]

    def test_what_reaches_no_output_has_gradient_exactly_zero(self, device: str) -> None:
        net = network(CASES["dead"]).to(device)
        x, grad_y = batch_of(net, 5)
        _, _, grad_weight, grad_bias = gradients(net, net, x, grad_y)
        _, dst = net.graph.edge_index
        dead = [i for i, v in enumerate(dst) if not net.graph.reaches_output[v]]
        assert dead
        assert grad_weight[dead].tolist() == [0.0] * len(dead)
        assert all(grad_weight[i] != 0 for i in range(len(dst)) if i not in dead)
        for i, v in enumerate(net.graph.computed_index):
            assert (grad_bias[i] != 0) == bool(net.graph.reaches_output[v])

    @pytest.mark.parametrize("need_x", [False, True])
    @pytest.mark.parametrize("need_parameters", [False, True])
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_only_what_is_needed(self, device: str, case: str, need_x: bool, need_parameters: bool) -> None:
        net = network(CASES[case], torch.float32).to(device)
        x, grad_y = batch_of(net, 70)
        everything = gradients(net, net, x, grad_y)
        net.requires_grad_(need_parameters)
        x = x.requires_grad_(need_x)
        y = net(x)
        assert y.requires_grad == (need_x or need_parameters)
        if y.requires_grad:
            y.backward(grad_y)
        for tensor, wanted, grad in zip(
            (x, net.weight, net.bias), (need_x, *[need_parameters] * 2), everything[1:], strict=True
        ):
            assert (tensor.grad is not None) == wanted
            if wanted:
                assert_same_bits([tensor.grad], [grad])

    @pytest.mark.parametrize("case", ["relu", "elu", "selu", "hard_tanh", "tanh", "silu"])
    def test_derivatives_at_nan_and_infinity_are_torchs(self, device: str, case: str) -> None:
        graph = fw.Graph.from_edges([0], [1], weight=[1.0], output_activation=case)
        net = fw.Network(graph, dtype=torch.float64).to(device)
        x = torch.tensor([[float("nan")], [float("inf")], [-float("inf")], [1.0]], dtype=torch.float64, device=device)
        for samples in (x, x.flip(0)):
            grads = gradients(net, net, samples, torch.ones_like(samples))
            wanted = gradients(lambda x: fw.reference(net, x), net, samples, torch.ones_like(samples))
            torch.testing.assert_close(grads[1], wanted[1], equal_nan=True)

    def test_an_infinite_sample_weighs_the_same_anywhere_in_the_batch(self, device: str) -> None:
        net = fw.Network(fw.Graph.from_edges([0, 1], [2, 2], weight=[1.0, 1.0]), dtype=torch.float64).to(device)
        x = torch.tensor([[1.0, 2.0], [float("inf"), 1.0]], dtype=torch.float64, device=device)
        for samples in (x, x.flip(0)):
            net.zero_grad()
            net(samples).sum().backward()
            assert net.weight.grad.tolist() == [float("inf"), 3.0]

    def test_padding_makes_no_infinities(self, device: str) -> None:
        """Samples past the batch's end must not turn 0 x inf into NaN: at x = 0 this network overflows."""
        graph = fw.Graph.from_edges([0, 1, 2], [1, 2, 3], activation="square", output_activation="square")
        net = fw.Network(graph, dtype=torch.float32).to(device)
        with torch.no_grad():
            net.weight.fill_(1.0)
            net.bias.copy_(torch.tensor([-1e20, 0.0, 0.0]))
        x = torch.full((3, 1), 1e20, device=device)
        net(x).sum().backward()
        assert net.weight.grad.isfinite().all()

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "dead", "no_edges"])
    @pytest.mark.parametrize(("need_x", "need_parameters"), [(True, True), (False, True), (True, False)])
    def test_opcheck(self, device: str, case: str, need_x: bool, need_parameters: bool) -> None:
        net = network(CASES[case]).to(device)
        x, grad_y = batch_of(net, 5)
        weight, bias = net.weight.detach(), net.bias.detach()
        words, header, num_inputs, num_outputs, tape_rows, *_ = net._placed
        _, tape = torch.ops.freewire.forward(x, weight, bias, words, header, num_outputs, tape_rows)
        arguments = (grad_y, tape, weight, words, header, num_inputs, len(bias), need_x, need_parameters)
        torch.library.opcheck(torch.ops.freewire.backward.default, arguments)


def smooth(graph: fw.Graph) -> fw.Graph:
    """The same edges with a derivative everywhere."""

    def replace(code: int, known: Sequence[str], allowed: Sequence[str], other: str) -> str:
        return known[code] if known[code] in allowed else other

    src, dst = graph.edge_index
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=graph.num_nodes,
        inputs=graph.input_index,
        outputs=graph.output_index,
        activation=[replace(c, ACTIVATIONS, SMOOTH_ACTIVATIONS, "tanh") for c in graph.activation],
        aggregation=[replace(c, AGGREGATIONS, SMOOTH_AGGREGATIONS, "product") for c in graph.aggregation],
    )
