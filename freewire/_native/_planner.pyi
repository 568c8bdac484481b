# SPDX-License-Identifier: MIT
# The functions of csrc/planner/module.cpp; names are those of csrc/planner/edge_lists.h, csrc/plan_layout.h and `Plan`.
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class Levels(TypedDict):
    level: NDArray[np.int64]
    in_degree: NDArray[np.int64]
    out_degree: NDArray[np.int64]

class Order(Levels, total=False):  # absent where there is a cycle
    edge_index: NDArray[np.int64]
    edge_position: NDArray[np.int64]

class EdgeLists(TypedDict):
    slot_of: NDArray[np.int32]
    slot_node: NDArray[np.int64]
    level_ptr: NDArray[np.int64]
    in_begin: NDArray[np.int64]
    in_end: NDArray[np.int64]
    in_src: NDArray[np.int32]
    out_ptr: NDArray[np.int64]
    out_split: NDArray[np.int64]
    out_dst: NDArray[np.int32]
    out_edge: NDArray[np.int64]
    out_sparse: NDArray[np.int64]
    run_node: NDArray[np.int32]
    stage_ptr: NDArray[np.int64]
    component: NDArray[np.int32]
    component_ptr: NDArray[np.int64]
    block_begin: NDArray[np.int32]
    block_end: NDArray[np.int32]
    block_src_ptr: NDArray[np.int64]
    block_src: NDArray[np.int32]
    block_panel: NDArray[np.int64]
    panel_column: NDArray[np.int32]
    in_split: NDArray[np.int64]

def order(src: NDArray[np.int64], dst: NDArray[np.int64], num_nodes: int) -> Order: ...
def reach(
    edge_index: NDArray[np.int64], start: NDArray[np.int64], num_nodes: int, backward: bool
) -> NDArray[np.bool_]: ...
def edge_lists(
    edge_index: NDArray[np.int64],
    level: NDArray[np.int64],
    inputs: NDArray[np.int64],
    keep: NDArray[np.bool_],
    linear: NDArray[np.bool_],
) -> EdgeLists: ...
def inference_rows(
    level_ptr: NDArray[np.int64],
    num_inputs: int,
    component: NDArray[np.int32],
    out_ptr: NDArray[np.int64],
    out_sparse: NDArray[np.int64],
    out_split: NDArray[np.int64],
    out_dst: NDArray[np.int32],
    is_output: NDArray[np.bool_],
) -> NDArray[np.int32]: ...

# The most groups of tiles whose weight sums a backward on the CPU keeps apart: kMaxGroups in csrc/cpu/network/tiling.h.
MAX_GROUPS: int

class PlanSizes:
    # A number for each line of FREEWIRE_PLAN_SIZES in csrc/plan_layout.h.
    def __getattr__(self, name: str) -> int: ...

class PlanLayout(TypedDict):
    header_words: int
    sizes: list[str]
    sections: dict[str, np.dtype[Any]]
    given: list[str]
    group_edges: int

class Tiling(TypedDict):
    row_bytes: int
    columns: int
    tiles: int
    groups: int

def plan_layout() -> PlanLayout: ...
def plan_sizes(
    arrays: Mapping[str, NDArray[Any]], num_inputs: int, num_biases: int, num_results: int, row_bytes: int
) -> PlanSizes: ...
def pack(
    arrays: Mapping[str, NDArray[Any]], num_inputs: int, num_biases: int, num_results: int, row_bytes: int
) -> NDArray[np.int64]: ...
def pack_members(
    graphs: Sequence[tuple[NDArray[Any], ...]], keeps: NDArray[np.bool_], row_bytes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def sections(words: NDArray[np.int64]) -> dict[str, NDArray[Any]]: ...
def padded_batch(batch: int) -> int: ...

few_padding: int  # kFewPadding of csrc/allocations.h

def cpu_call_bytes(
    sizes: PlanSizes,
    batch: int,
    itemsize: int,
    training: bool,
    threads: int,
    need_x: bool,
    need_parameters: bool,
) -> int: ...
def cpu_sequence_bytes(
    sizes: PlanSizes,
    batch: int,
    steps: int,
    every: int,
    itemsize: int,
    training: bool,
    threads: int,
    need_x: bool,
    need_parameters: bool,
) -> int: ...
def gpu_call_bytes(
    sizes: PlanSizes,
    batch: int,
    itemsize: int,
    training: bool,
    shared_bytes: int,
    need_x: bool,
    need_parameters: bool,
) -> int: ...
def gpu_sequence_bytes(
    sizes: PlanSizes,
    batch: int,
    steps: int,
    every: int,
    itemsize: int,
    training: bool,
    shared_bytes: int,
    need_x: bool,
    need_parameters: bool,
) -> int: ...
def gpu_forward_tile(
    sizes: PlanSizes, batch: int, itemsize: int, training: bool, shared_bytes: int, multiprocessors: int
) -> int: ...
def cpu_tiling(sizes: PlanSizes, batch: int, itemsize: int) -> Tiling: ...
def cpu_tasks(sizes: PlanSizes, batch: int, itemsize: int, threads: int) -> tuple[int, int, int]: ...
