# SPDX-License-Identifier: MIT
# What csrc/planner/module.cpp offers; the words are those of csrc/planner/edge_lists.h and of `plan.Plan`.
from typing import TypedDict

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
    out_ptr: NDArray[np.int64],
    out_split: NDArray[np.int64],
    out_dst: NDArray[np.int32],
    is_output: NDArray[np.bool_],
) -> NDArray[np.int32]: ...
def twin_edges(
    level_ptr: NDArray[np.int64],
    num_inputs: int,
    in_begin: NDArray[np.int64],
    in_end: NDArray[np.int64],
    in_src: NDArray[np.int32],
) -> int: ...
