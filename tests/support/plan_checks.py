# SPDX-License-Identifier: MIT
"""The rules of a plan's run order and dense blocks, in slow Python: csrc/plan_layout.h and csrc/planner/blocks.h."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator

import networkx as nx

from freewire.plan import Plan
from tests.support.plans import LINEAR, kind


class Checked:
    """A plan's lists in plain Python, and the checks; a node is a number from 0 to C - 1."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.inputs = plan.num_inputs
        ends = list(zip(plan.in_begin.tolist(), plan.in_end.tolist(), strict=True))
        self.sources = [plan.in_src[begin:end].tolist() for begin, end in ends]
        self.linear = [kind(plan, node + self.inputs) in LINEAR for node in range(plan.num_computed)]
        levels = plan.level_ptr[1:].tolist()
        self.level = [sum(end <= node + self.inputs for end in levels) for node in range(plan.num_computed)]
        self.run = plan.run_node.tolist()
        pointers = itertools.pairwise(plan.block_src_ptr.tolist())
        self.blocks = [
            (self.run[begin:end], plan.block_src[first:last].tolist(), panel)
            for begin, end, (first, last), panel in zip(
                plan.block_begin.tolist(),
                plan.block_end.tolist(),
                pointers,
                plan.block_panel.tolist(),
                strict=True,
            )
        ]
        self.block_of = {node: b for b, (nodes, _, _) in enumerate(self.blocks) for node in nodes}

    def check(self) -> None:
        """Assert every rule."""
        components = self.components()
        self.check_order(components)
        self.check_stages()
        self.check_blocks(components)
        self.check_completeness(components)
        self.check_panels()

    def components(self) -> list[int] | None:
        """The component of each node if the order goes by component, numbered by first slots."""
        wires = nx.Graph()
        wires.add_nodes_from(range(self.plan.num_slots))
        wires.add_edges_from((u, v + self.inputs) for v, read in enumerate(self.sources) for u in read)
        parts = sorted((sorted(part) for part in nx.connected_components(wires)), key=lambda part: part[0])
        computed = [part for part in parts if part[-1] >= self.inputs]
        if len(computed) < 2 or max(len(part) for part in parts) > 2048:
            return None
        number = {slot: i for i, part in enumerate(computed) for slot in part}
        return [number[node + self.inputs] for node in range(len(self.sources))]

    def check_order(self, components: list[int] | None) -> None:
        """By component, then by level, twins and padded blocks in the place of their first node, otherwise by slot."""
        plan = self.plan
        part = components or [0] * len(self.sources)
        assert sorted(self.run) == list(range(plan.num_computed))
        twins: dict[object, int] = {}
        place = []
        for node, read in enumerate(self.sources):
            key: object = node
            if node in self.block_of and self.blocks[self.block_of[node]][2] >= 0:
                key = ("padded", self.block_of[node])
            elif self.linear[node] and len(read) >= 4:
                key = (part[node], self.level[node], tuple(read))
            place.append((part[node], self.level[node], twins.setdefault(key, node), node))
        assert self.run == sorted(range(plan.num_computed), key=lambda node: place[node])
        counts = [part.count(i) for i in range(max(part, default=0) + 1)] if components else []
        assert plan.component_ptr.tolist() == [0, *itertools.accumulate(counts)]

    def check_stages(self) -> None:
        """A stage is a level, or the levels of a triangle; its nodes read only earlier stages and their own block."""
        ptr = self.plan.stage_ptr.tolist()
        assert ptr[0] == 0
        if len(self.plan.component_ptr) > 1:
            assert ptr == [0]
        at = {node: i for i, node in enumerate(self.run)}
        for v, read in enumerate(self.sources):
            assert all(u < self.inputs or at[u - self.inputs] < at[v] for u in read)
        if len(self.plan.component_ptr) > 1 or not self.run:
            return
        assert ptr == sorted(set(ptr))
        assert ptr[-1] == len(self.run)
        for begin, end in itertools.pairwise(ptr):
            nodes = self.run[begin:end]
            for v in nodes:
                near = {u - self.inputs for u in self.sources[v]} & set(nodes)
                assert all(self.block_of[u] == self.block_of[v] for u in near)
            levels = {self.level[v] for v in nodes}
            assert len(levels) == 1 or len({self.block_of[v] for v in nodes}) == 1
            assert sum(level in levels for level in self.level) == len(nodes)

    def check_blocks(self, components: list[int] | None) -> None:
        """The edges of a block are the ones its definition says, in the order of its sources."""
        plan = self.plan
        split = (plan.in_split - plan.in_begin).tolist()
        assert all(split[v] == 0 for v in range(len(split)) if v not in self.block_of)
        for nodes, sources, panel in self.blocks:
            assert len(set(sources)) == len(sources) >= 4
            assert len(nodes) >= 4
            assert all(self.linear[v] for v in nodes)
            assert len({components[v] for v in nodes} if components else {0}) == 1
            dense = [self.sources[v][: split[v]] for v in nodes]
            if panel < 0:
                assert all(read == sources for read in dense)
                tails = [self.sources[v][split[v] :] for v in nodes]
                if any(tails):
                    assert len(sources) >= 16
                    assert len(nodes) <= 16
                    assert tails == [[u + self.inputs for u in nodes[:i]] for i in range(len(nodes))]
                    continue
            else:
                assert all(split[v] == len(self.sources[v]) for v in nodes)
                edges = sum(map(len, dense))
                assert len(nodes) * len(sources) <= 1.3 * edges
                assert len(nodes) >= 8
                assert len(sources) >= 16
                order = {u: i for i, u in enumerate(sources)}
                assert sources == sorted(sources, key=lambda u: (self._level(u), plan.slot_node[u]))
                assert set(sources) == set().union(*dense)
                assert all([order[u] for u in read] == sorted({order[u] for u in read}) for read in dense)
            assert len({self.level[v] for v in nodes}) == 1

    def _level(self, slot: int) -> int:
        return 0 if slot < self.inputs else self.level[slot - self.inputs]

    def check_completeness(self, components: list[int] | None) -> None:
        """Every group of four or more nodes that read the same is a block of its own, and chains are triangles."""
        twins = defaultdict(list)
        for v, read in enumerate(self.sources):
            if self.linear[v] and len(read) >= 4 and len(set(read)) == len(read):
                twins[tuple(read), self.level[v], components[v] if components else 0].append(v)
        exact = {tuple(nodes) for nodes in twins.values() if len(nodes) >= 4}
        padded = {tuple(nodes) for nodes, _, panel in self.blocks if panel >= 0}
        triangles = set(self._triangles({v for nodes in exact | padded for v in nodes}))
        assert {tuple(nodes) for nodes, _, _ in self.blocks} == exact | padded | triangles
        assert len(self.blocks) == len(exact) + len(padded) + len(triangles)

    def _triangles(self, taken: set[int]) -> Iterator[tuple[int, ...]]:
        """Chains of free nodes, each of which reads the sources of the one before it and that one."""
        readers = defaultdict(list)
        for v, read in enumerate(self.sources):
            readers[tuple(read)].append(v)
        widths = Counter(self.level)
        by_component = len(self.plan.component_ptr) > 1

        def free(v: int) -> bool:
            twins = [u for u in readers[tuple(self.sources[v])] if self.linear[u]]
            return self.linear[v] and len(twins) == 1 and v not in taken

        def continues(u: int, v: int) -> bool:
            alone = by_component or widths[self.level[u]] == widths[self.level[v]] == 1
            return free(v) and alone and self.sources[v] == [*self.sources[u], u + self.inputs]

        at = 0
        while at < len(self.run):
            chain = [self.run[at]]
            if free(chain[0]) and len(self.sources[chain[0]]) >= 16:
                for v in self.run[at + 1 : at + 16]:
                    if not continues(chain[-1], v):
                        break
                    chain.append(v)
            at += len(chain)
            if len(chain) >= 4 and len(set(self.sources[chain[0]])) == len(self.sources[chain[0]]):
                yield tuple(chain)

    def check_panels(self) -> None:
        """The padded weights follow one another; an edge in them knows its column."""
        plan = self.plan
        size = 0
        column = [0] * plan.num_edges
        for nodes, sources, panel in self.blocks:
            if panel < 0:
                assert panel == -1
                continue
            assert panel == size
            size += len(nodes) * len(sources)
            for v in nodes:
                for e in range(plan.in_begin[v], plan.in_end[v]):
                    column[e] = sources.index(plan.in_src[e])
        assert plan.panel_column.tolist() == (column if size else [])
        assert plan.sizes.num_panel == size
