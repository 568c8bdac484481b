// SPDX-License-Identifier: MIT
// The forward of a population: one block runs tiles of the batch through one member.
//
// A block copies its member's nodes and edges to shared memory, once for all its tiles, and runs each tile level by
// level with the tile's rows there too; a team of lanes handles one node at a time, and reads edges side by side, so
// that a single sample keeps all lanes busy. What does not fit shared memory is read where it is: rows in global
// memory, edges in the plan. Race-free: blocks write samples and members of their own, and within a level nodes write
// rows of their own, which no node of that level reads. Global traffic per block: 8 bytes per edge and 36 per node (12
// and 40 in double); per tile: x once, the tape once, if it is kept. Every sum has one order: bitwise deterministic.
#include "cuda/network/forward_node.h"
#include "cuda/network/member.h"
#include "cuda/network/walk.h"

namespace freewire::cuda {
namespace {

template <int kColumns, class T>
__global__ void __launch_bounds__(kMemberThreads<T>, kMemberBlocks<T>)
    population_forward_kernel(const __grid_constant__ PopulationForward<T> arrays,
                              const __grid_constant__ PopulationTiling tiling) {
  using C = Compute<T>;
  const Members<T>& members = arrays.members;
  const unsigned splits = tiling.splits;
  const int64_t member = blockIdx.x / splits, batch = members.batch, pitch = population_pitch(batch);
  const MemberPlace place(members.table, member);
  char* const shared = dynamic_shared<char>();
  PlanView& plan = *reinterpret_cast<PlanView*>(shared);
  read_member(members.words + place.word, plan);
  __syncthreads();

  const bool keep = arrays.tape, moved = !keep && plan.reuses_rows();
  const auto at = forward_layout<T>(plan, keep, kColumns, tiling.shared_bytes, tiling.rows_allowed);
  const int num_inputs = static_cast<int>(plan.num_inputs), num_outputs = static_cast<int>(plan.num_outputs);
  const int num_levels = static_cast<int>(plan.num_levels);
  const int32_t* const source = moved ? plan.row_src : plan.in_src;
  const T* const weight = members.weight + place.weight;
  const T* const bias = arrays.bias ? arrays.bias + place.bias : nullptr;
  const auto node_of_plan = [&](int node) {
    const int64_t first = plan.in_begin[node], slot = num_inputs + node;
    return MemberNode<C>{static_cast<int32_t>(first),
                         static_cast<int32_t>(plan.in_end[node] - first),
                         kind_of(plan.activation[node], plan.aggregation[node]),
                         moved ? plan.inference_row[slot] : static_cast<int32_t>(slot),
                         keep ? plan.kept_row[node] : -1,
                         bias ? widened(bias[plan.bias_index[node]]) : C(0)};
  };
  const auto edge_of_plan = [&](int edge) { return MemberEdge<C>{source[edge], widened(weight[edge])}; };
  int32_t* const levels = reinterpret_cast<int32_t*>(shared + at.levels);
  MemberNode<C>* const nodes = reinterpret_cast<MemberNode<C>*>(shared + at.nodes);
  MemberEdge<C>* const edges = reinterpret_cast<MemberEdge<C>*>(shared + at.edges);
  if (at.copied) {
    const int num_nodes = static_cast<int>(plan.num_computed()), num_edges = static_cast<int>(plan.num_edges);
    for (int i = threadIdx.x; i <= num_levels; i += blockDim.x) levels[i] = static_cast<int32_t>(plan.level_ptr[i]);
    for (int i = threadIdx.x; i < num_nodes; i += blockDim.x) nodes[i] = node_of_plan(i);
    for (int i = threadIdx.x; i < num_edges; i += blockDim.x) edges[i] = edge_of_plan(i);
  }
  const auto level_begin = [&](int level) {
    return at.copied ? levels[level] : static_cast<int32_t>(plan.level_ptr[level]);
  };

  const T* const x = arrays.x + (arrays.shared_x ? 0 : member * batch * num_inputs);
  T* const y = arrays.y + member * batch * num_outputs;
  const int64_t samples = keep ? pitch : batch;
  for (int64_t first = int64_t{blockIdx.x % splits} * kColumns; first < samples; first += int64_t{splits} * kColumns) {
    const auto global_rows = [&](T* all) { return Rows<T>{all ? all + place.row * pitch + first : nullptr, pitch}; };
    const Rows<T> tape = global_rows(arrays.tape);
    const Rows<T> rows = at.resident ? Rows<T>{reinterpret_cast<T*>(shared + kViewBytes), kColumns}
                         : keep      ? tape
                                     : global_rows(arrays.rows);
    const bool apart = keep && at.resident;  // the tape is written besides the rows
    each_of_tile<kColumns>(num_inputs, [&](int i, int c) {
      const T value = first + c < batch ? x[(first + c) * num_inputs + i] : T{};
      rows.at(i, c) = value;
      if (apart) tape.at(i, c) = value;
    });
    __syncthreads();

    with_member_lanes<T, kColumns>(plan, [&](auto lanes, int pair) {
      using L = decltype(lanes);
      const int column = L::column();
      const int64_t live = batch - first - column;
      for (int level = 0; level < num_levels; ++level) {
        each_slot<L>(level == 0 ? num_inputs : level_begin(level), level_begin(level + 1), [&](int slot, bool mine) {
          const MemberNode<C> node = at.copied ? nodes[slot - num_inputs] : node_of_plan(slot - num_inputs);
          const auto edge = [&](int k) { return at.copied ? edges[node.first + k] : edge_of_plan(node.first + k); };
          const auto aggregation = static_cast<Aggregation>(aggregation_of(node.kind));
          C sums[L::kKept];
          gather_edges<L>(rows, mine && is_linear(aggregation) ? node.count : 0, pair, edge, sums);
          if (!mine || L::has_copy()) return;
          Pack<C, L::kKept> value;
          const C scale = aggregation == Aggregation::kMean && node.count > 0 ? C(1) / C(node.count) : C(1);
#pragma unroll
          for (int c = 0; c < L::kKept; ++c) {
            if (!is_linear(aggregation)) {
              sums[c] = aggregate<C>(aggregation, node.count, [&](int64_t k) {
                const MemberEdge<C> read = edge(static_cast<int>(k));
                return read.weight * widened(rows.at(read.row, column + c));
              });
            }
            value.v[c] = c < live ? sums[c] * scale + node.bias : C(0);
          }
          if (node.kept_row >= 0) store_global(&tape.at(node.kept_row, column), pack_as<T>(value));
          activate_all(static_cast<Activation>(activation_of(node.kind)), value.v, live);
          const Pack<T, L::kKept> stored = pack_as<T>(value);
          store_pack(&rows.at(node.row, column), stored);
          if (apart) store_global(&tape.at(slot, column), stored);
        });
        __syncthreads();
      }
    });

    each_of_tile<kColumns>(num_outputs, [&](int o, int c) {
      const int32_t slot = plan.output_slot[o], row = moved ? plan.inference_row[slot] : slot;
      if (first + c < batch) y[(first + c) * num_outputs + o] = rows.at(row, c);
    });
    __syncthreads();  // before the next tile's values
  }
}

}  // namespace

template <class T>
void population_forward(const PopulationForward<T>& arrays, const PopulationTiling& tiling, Stream stream) {
  if (arrays.members.batch == 0) return;
  with_tile(tiling.columns, [&](auto columns) {
    launch<population_forward_kernel<decltype(columns)::value, T>>(arrays.members.count * tiling.splits, tiling.threads,
                                                                   tiling.shared_bytes, stream, arrays, tiling);
  });
}

#define FREEWIRE_INSTANTIATE(T, tag, name) \
  template void population_forward<T>(const PopulationForward<T>&, const PopulationTiling&, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda
