# SPDX-License-Identifier: MIT
"""`fw.Population` by the CUDA operators, against its members and against the CPU; on the CPU shim, and on a GPU.

csrc/cuda/network/population_kernels.h has the kernels. "Spilled" members have rows in global memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

import freewire as fw
from tests.support import simt_torch
from tests.support.cuda_populations import LARGE, hubs, members
from tests.support.populations import INPUTS, OUTPUTS, alone, gradients, population
from tests.support.tensors import DTYPES, NARROW, assert_same_bits, assert_within

anywhere = pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
tiles = pytest.mark.parametrize("tile", [None, "0", "2", "8", "32"])
BATCHES = (0, 1, 33, 100)
NAMES = ("inference", "y", "grad_x", "grad_weight", "grad_bias")
random = fw.generators.random_graph


def set_tile(monkeypatch: pytest.MonkeyPatch, tile: str | None) -> None:
    if tile is None:
        monkeypatch.delenv("FREEWIRE_CUDA_TILE", raising=False)
    else:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)


def arguments(pop: fw.Population, batch: int, per_member: bool, seed: int = 1) -> tuple[Tensor, Tensor]:
    """x and grad_y, standard normal, of the population's type and on its device."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (*([len(pop)] if per_member else []), batch, INPUTS), (len(pop), batch, OUTPUTS)
    x, grad_y = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x.to(pop.weight), grad_y.to(pop.weight)


def everything(pop: fw.Population, x: Tensor, grad_y: Tensor, per_member: bool) -> list[Tensor]:
    """y without gradients, y, and all gradients."""
    with torch.no_grad():
        y = pop(x, per_member=per_member)
    return [y, *gradients(pop, x, grad_y, per_member)]


def of_kinds(dtype: torch.dtype, bias: bool = True, large: bool = True) -> fw.Population:
    return population(members(large), dtype, bias=bias)


@cache
def wanted(dtype: torch.dtype, batch: int, per_member: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The results of the members on the CPU: exactly, and in a type; of 16 bits they are one."""
    pop = of_kinds(dtype)
    x, grad_y = arguments(pop, batch, per_member)
    rough = alone(pop, x, grad_y, per_member)
    if dtype in NARROW:
        return [value.double() for value in rough], rough
    return alone(copy.deepcopy(pop).double(), x.double(), grad_y.double(), per_member), rough


@pytest.fixture(scope="module", autouse=True)
def _expected(one_thread: None) -> Iterator[None]:
    """The CPU's results, before the CUDA operators take their place on the shim."""
    for dtype in DTYPES:
        for batch in BATCHES:
            for per_member in (False, True):
                wanted(dtype, batch, per_member)
    yield
    wanted.cache_clear()


def assert_right(found: list[Tensor], dtype: torch.dtype, batch: int, per_member: bool) -> None:
    exact, rough = wanted(dtype, batch, per_member)
    for name, got, want, plain in zip(NAMES, found, (exact[0], *exact), (rough[0], *rough), strict=True):
        assert_within(got.cpu(), want, plain, f"{name}, batch {batch}")


@anywhere
class TestResults:
    @dtypes
    @tiles
    def test_they_are_the_cpus(
        self, device: str, tile: str | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_tile(monkeypatch, tile)
        pop = of_kinds(dtype).to(device)
        for batch in BATCHES if dtype == torch.float32 else (33,):
            per_member = batch != 33
            assert_right(everything(pop, *arguments(pop, batch, per_member), per_member), dtype, batch, per_member)

    def test_the_backward_need_not_have_the_forwards_width(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        pop = of_kinds(torch.float32).to(device)
        x, grad_y = arguments(pop, 33, True)
        for forward, backward in (("2", "32"), ("32", "2"), ("0", "8")):
            set_tile(monkeypatch, forward)
            y = pop(x, per_member=True)
            set_tile(monkeypatch, backward)
            found = [y.detach(), y.detach(), x, *torch.autograd.grad(y, list(pop.parameters()), grad_y)]
            found[2] = wanted(torch.float32, 33, True)[0][1].to(x)  # it is not what is tested here
            assert_right(found, torch.float32, 33, True)

    def test_without_a_bias(self, device: str) -> None:
        pop = of_kinds(torch.float64, bias=False, large=False).to(device)
        x, grad_y = arguments(pop, 5, True)
        assert not any(name == "bias" for name, _ in pop.named_parameters())
        for got, want in zip(gradients(pop, x, grad_y, True), alone(pop, x, grad_y, True), strict=True):
            torch.testing.assert_close(got, want)

    def test_gradients_that_are_not_wanted_change_no_other(self, device: str) -> None:
        pop = of_kinds(torch.bfloat16, large=False).to(device)
        x, grad_y = arguments(pop, 40, True)
        leaves = {"x": x.requires_grad_(), "weight": pop.weight, "bias": pop.bias}

        def found(names: tuple[str, ...]) -> list[Tensor]:
            for name, leaf in leaves.items():
                leaf.requires_grad_(name in names)
            return list(torch.autograd.grad(pop(x, per_member=True), [leaves[name] for name in names], grad_y))

        every = dict(zip(leaves, found(tuple(leaves)), strict=True))
        for names in (("x",), ("weight",), ("bias",), ("x", "bias")):
            assert_same_bits(found(names), [every[name] for name in names])

    def test_what_reaches_no_output_has_gradient_0(self, device: str) -> None:
        pop = of_kinds(torch.float32, large=False).to(device)
        x, grad_y = arguments(pop, 9, False)
        *_, grad_weight, grad_bias = gradients(pop, x, grad_y)
        dead = next(i for i, graph in enumerate(pop.graphs) if graph.num_nodes == 9)
        src, dst = pop.graphs[dead].edge_index
        lost = torch.from_numpy((dst >= 7) & (src >= 0))
        assert lost.sum() == 2
        edges = grad_weight[pop.weight_slice(dead)].cpu()
        assert not edges[lost].any()
        assert edges[~lost].all()
        assert grad_bias[pop.bias_slice(dead)].cpu().bool().tolist() == [True] * 3 + [False] * 2

    def test_one_member_without_any_node(self, device: str) -> None:
        """An input is all outputs; nothing is learnt, and grad_x is grad_y."""
        copies = fw.Graph.from_edges([], [], num_nodes=INPUTS, inputs=range(INPUTS), outputs=[2, 0, 3])
        pop = population([copies], torch.float32).to(device)
        x, grad_y = arguments(pop, 3, True)
        y, grad_x, *_ = gradients(pop, x, grad_y, True)
        assert torch.equal(y, x[..., [2, 0, 3]])
        assert torch.equal(grad_x[..., [2, 0, 3]], grad_y)
        assert not grad_x[..., 1].any()


class TestBits:
    """On the shim: on a GPU the compiler may fuse other multiplications and additions in other kernels."""

    @pytest.fixture(autouse=True)
    def _shim(self) -> Iterator[None]:
        with simt_torch.played():
            yield

    @pytest.mark.compiler
    @dtypes
    @pytest.mark.parametrize("tile", ["2", "8", "32"])
    def test_values_and_grad_x_are_those_of_the_members(
        self, tile: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the same width of tile, which a batch of so many samples fills."""
        set_tile(monkeypatch, tile)
        pop = of_kinds(dtype)
        for i in range(len(pop)):
            assert pop.member(i).plan.num_slots < 1000  # so that the network alone is resident too
        x, grad_y = arguments(pop, 33, True)
        assert_same_bits(gradients(pop, x, grad_y, True)[:2], alone(pop, x, grad_y, True)[:2])

    @pytest.mark.compiler
    @pytest.mark.parametrize("tile", ["2", "32"])
    def test_other_members_change_no_bit(self, tile: str, monkeypatch: pytest.MonkeyPatch) -> None:
        set_tile(monkeypatch, tile)
        pop = of_kinds(torch.float32)
        x, grad_y = arguments(pop, 33, True)
        found = gradients(pop, x, grad_y, True)
        for i in (0, LARGE):
            one = fw.Population([pop.member(i)])
            y, grad_x, *parameters = gradients(one, x[i : i + 1], grad_y[i : i + 1], True)
            assert_same_bits((y[0], grad_x[0]), [part[i] for part in found[:2]])
            # As many blocks share a member's samples as there are too few members for the device.
            whole = found[2][pop.weight_slice(i)], found[3][pop.bias_slice(i)]
            for got, want in zip(parameters, whole, strict=True):
                torch.testing.assert_close(got, want)

    @pytest.mark.compiler
    @pytest.mark.parametrize("shared_bytes", [227 << 10, 20_000, 6_000])
    def test_memory_and_threads_change_no_bit(self, shared_bytes: int) -> None:
        """Of members some of which are spilled, or none, with copies of nodes and edges or without."""
        pop = of_kinds(torch.float32)
        x, grad_y = arguments(pop, 3, True)
        want = everything(pop, x, grad_y, True)
        with simt_torch.device(shared_bytes=shared_bytes, seed=7):
            assert_same_bits(everything(pop, x, grad_y, True), want)


class TestLaunches:
    """On the shim, which counts them."""

    @pytest.fixture
    def count(self) -> Iterator[Callable[[fw.Population, int], dict[str, int]]]:
        def started(pop: fw.Population, batch: int) -> dict[str, int]:
            x, grad_y = arguments(pop, batch, True)
            before = simt_torch.launches()
            gradients(pop, x, grad_y, True)
            times = {name: n - before.get(name, 0) for name, n in simt_torch.launches().items()}
            return {name: n for name, n in times.items() if n}

        with simt_torch.played():
            yield started

    @pytest.mark.compiler
    @pytest.mark.parametrize("size", [1, 7, 300])
    def test_one_each_way_whatever_the_members(
        self, size: int, count: Callable[[fw.Population, int], dict[str, int]]
    ) -> None:
        pop = population([random(INPUTS, 3 + i % 9, OUTPUTS, 2, seed=i) for i in range(size)], torch.float32)
        started = {"population_forward_kernel": 1, "population_backward_kernel": 1}
        assert count(pop, 1) == started
        assert count(pop, 0) == {"population_backward_kernel": 1}  # gradients of parameters, which are 0
        if size < 10:  # several blocks per member, whose sums are added up
            assert count(pop, 200) == {**started, "population_gradient_kernel": 1}

    @pytest.mark.compiler
    def test_many_members_need_no_partial_sums(
        self, count: Callable[[fw.Population, int], dict[str, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_tile(monkeypatch, "8")
        pop = population([hubs(2, seed) for seed in range(20)], torch.float32)
        with simt_torch.device(multiprocessors=1):
            assert "population_gradient_kernel" not in count(pop, 33)
            # 16 bits round the sum of several tiles once.
            assert count(pop.to(torch.bfloat16), 33)["population_gradient_kernel"] == 1


@anywhere
class TestMemory:
    """What the operators read and write."""

    @tiles
    @pytest.mark.parametrize("batch", BATCHES)
    def test_what_nothing_wrote_is_not_read(
        self, device: str, batch: int, tile: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Torch's deterministic mode fills fresh memory with NaN, or with the largest integer."""
        set_tile(monkeypatch, tile)
        for dtype in (torch.float32, torch.bfloat16):
            pop = of_kinds(dtype, large=False).to(device)
            x, grad_y = arguments(pop, batch, True)
            want = everything(pop, x, grad_y, True)
            torch.use_deterministic_algorithms(True)
            try:
                found = everything(pop, x, grad_y, True)
            finally:
                torch.use_deterministic_algorithms(False)
            assert_same_bits(found, want)
            assert all(value.isfinite().all() for value in want)

    def test_tensors_that_are_not_contiguous(self, device: str) -> None:
        pop = of_kinds(torch.float32, large=False).to(device)
        x, grad_y = arguments(pop, 5, True)
        want = everything(pop, x, grad_y, True)

        def odd(tensor: Tensor) -> Tensor:
            return torch.stack((tensor, tensor), -1)[..., 1]

        assert_same_bits(everything(pop, odd(x), odd(grad_y), True), want)

    def test_parameters_and_a_tape_that_are_parts_of_larger_tensors(self, device: str) -> None:
        """At addresses that no wide load can take."""
        pop = of_kinds(torch.float32, large=False).to(device)
        x, grad_y = arguments(pop, 9, True)
        want = everything(pop, x, grad_y, True)

        def inside(saved: Tensor) -> Tensor:
            if not saved.is_floating_point():
                return saved
            buffer = saved.new_empty(saved.numel() + 1)
            buffer[1:] = saved.flatten()
            return buffer[1:].view(saved.shape)

        for parameter in pop.parameters():
            parameter.data = inside(parameter.data)
        with torch.autograd.graph.saved_tensors_hooks(inside, lambda saved: saved):
            assert_same_bits(everything(pop, x, grad_y, True), want)

    def test_members_come_and_go(self, device: str) -> None:
        """Plans are then anywhere in their array, with gaps between them."""
        pop = of_kinds(torch.float32, large=False).to(device)
        pop.replace({0: random(INPUTS, 50, OUTPUTS, 3, seed=9), 2: None, 3: hubs(4), len(pop): hubs(9)})
        x, grad_y = arguments(pop, 5, True)
        for got, want in zip(gradients(pop, x, grad_y, True), alone(pop, x, grad_y, True), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


class TestDevice:
    """What is refused, and how it is told; on the shim."""

    @pytest.fixture(autouse=True)
    def _shim(self) -> Iterator[None]:
        with simt_torch.played():
            yield

    @pytest.fixture
    def pop(self) -> fw.Population:
        return population([hubs(2), random(INPUTS, 9, OUTPUTS, 3, seed=0)], torch.float32)

    @pytest.mark.compiler
    def test_a_streams_guard_is_the_tensors(self, pop: fw.Population) -> None:
        library = simt_torch.library()
        before, strays = library.simt_guards(), library.simt_strays()
        everything(pop, *arguments(pop, 3, True), True)
        assert library.simt_guards() - before == 3  # two forwards, one backward
        assert library.simt_strays() == strays

    @pytest.mark.compiler
    def test_the_chip_is_too_old(self, pop: fw.Population) -> None:
        message = r"GPU: expected compute capability 7\.5 \(Turing\) or newer, got 7\.0\. Use net\.to\(\"cpu\"\)\."
        with simt_torch.device(capability=70), pytest.raises(RuntimeError, match=message):
            pop(torch.zeros(3, INPUTS))

    @pytest.mark.compiler
    def test_the_oldest_chip_serves(self, pop: fw.Population) -> None:
        with simt_torch.device(capability=75, shared_bytes=64 << 10, multiprocessors=68):
            pop(torch.zeros(3, INPUTS)).sum().backward()

    @pytest.mark.compiler
    def test_a_kernel_that_does_not_start(self, pop: fw.Population) -> None:
        y = pop(torch.zeros(3, INPUTS))
        message = "CUDA: expected every kernel to start, got .*got the option to refuse them"
        with simt_torch.device(refuse=1):
            with pytest.raises(RuntimeError, match=message):
                pop(torch.zeros(3, INPUTS))
            with pytest.raises(RuntimeError, match=message):
                y.sum().backward()

    @pytest.mark.compiler
    def test_no_such_width(self, pop: fw.Population, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", "3")
        message = r'FREEWIRE_CUDA_TILE: expected 0, 2, 4, 8, 16 or 32, got "3"\. Unset it\.'
        with pytest.raises(RuntimeError, match=message):
            pop(torch.zeros(3, INPUTS))

    @pytest.mark.compiler
    def test_out_of_memory(self, pop: fw.Population) -> None:
        batch = 1 << 45
        x = torch.zeros(1, 1, 1).expand(1, batch, INPUTS)
        placed = pop._placed
        with pytest.raises(RuntimeError, match=r"CUDA out of memory: expected \d+ bytes to be free on the GPU"):
            torch.ops.freewire.population_inference(x, pop.weight, pop.bias, *placed[:3], OUTPUTS)

    @pytest.mark.compiler
    @pytest.mark.parametrize(
        ("place", "limit", "message"),
        [
            (2, INPUTS + 1, r"limits: expected members of 4 inputs and 3 outputs, got 5 and 3\."),
            (3, -1, r"limits: expected sizes of at least 0, got -1\."),
            (
                5,
                1 << 31,
                r"limits: expected members of at most 2147483647 edges and nodes on a GPU, got 2147483648 and",
            ),
            (0, 3, r"limits: expected \d+ numbers, the first of which is 2, got others\."),
        ],
    )
    def test_limits_of_other_members(self, pop: fw.Population, place: int, limit: int, message: str) -> None:
        plans, table, limits, *_ = pop._placed
        wrong = [*limits[:place], limit, *limits[place + 1 :]]
        x, grad_y, tape = torch.zeros(1, 3, INPUTS), torch.zeros(2, 3, OUTPUTS), torch.zeros(64 * limits[1])
        members = plans, table, wrong
        ops = torch.ops.freewire
        for op in (ops.population_inference, ops.population_forward):
            with pytest.raises(RuntimeError, match=message):
                op(x, pop.weight, pop.bias, *members, OUTPUTS)
        with pytest.raises(RuntimeError, match=message):
            ops.population_backward(grad_y, tape, pop.weight, *members, INPUTS, len(pop.bias), True, True)
