// SPDX-License-Identifier: MIT
// The backward of a population: one block runs tiles of the batch back through one member, gradients of parameters
// included.
//
// A block copies its member's slots and out-edges to shared memory, once for all its tiles. A tile's rows there are
// gradients, of terms for computed nodes and of x for inputs. A team of lanes handles one slot at a time and gathers
// from its readers; a reader's row, once loaded, serves the slot's gradient and, together with the slot's own value in
// registers, the gradient of the edge's weight, whose sum over the tile's columns takes less than one shuffle per edge
// and lane. Sums over tiles are kept in global memory, each by the one lane that adds to it; those of several blocks
// are added in order by a second kernel. Race-free: within a level slots write rows of their own and read those of
// later levels, and every edge has one source. No atomics; every sum has one order, given the tile's width and the
// number of blocks per member: bitwise deterministic. Global traffic per block: 16 bytes per edge (20
// in double) and 60 per slot; per tile: two tape rows per slot, 4 to 12 bytes per edge for its gradient, grad_y and
// grad_x once.
#include "cuda/network/backward_node.h"
#include "cuda/network/member.h"
#include "cuda/network/walk.h"

namespace freewire::cuda {
namespace {

// The gradients of one member's weights, or biases, as one block adds them up.
template <class T>
struct Totals {
  // partial: the block's sums, or null where the result itself is what the block adds to.
  __device__ Totals(Compute<T>* partial, T* result) : partial_(partial), result_(result) {}
  __device__ void put(int64_t i, Compute<T> value, bool add) const {
    if (partial_) {
      partial_[i] = add ? partial_[i] + value : value;
    } else if constexpr (kNarrow<T>) {
      result_[i] = narrowed<T>(value);  // of the only tile
    } else {
      result_[i] = add ? result_[i] + value : value;
    }
  }
  __device__ void clear(int64_t count) const {
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) put(i, 0, false);
  }

 private:
  Compute<T>* partial_;
  T* result_;
};

template <int kColumns, class T>
__global__ void __launch_bounds__(kMemberThreads<T>, kMemberBlocks<T>)
    population_backward_kernel(const __grid_constant__ PopulationBackward<T> arrays,
                               const __grid_constant__ PopulationTiling tiling) {
  using C = Compute<T>;
  const Members<T>& members = arrays.members;
  const unsigned splits = tiling.splits, split = blockIdx.x % splits;
  const int64_t member = blockIdx.x / splits, batch = members.batch, pitch = population_pitch(batch);
  const MemberPlace place(members.table, member);
  char* const shared = dynamic_shared<char>();
  PlanView& plan = *reinterpret_cast<PlanView*>(shared);
  read_member(members.words + place.word, plan);
  __syncthreads();

  const auto at = backward_layout<T>(plan, kColumns, tiling.shared_bytes, tiling.rows_allowed);
  const int num_inputs = static_cast<int>(plan.num_inputs), num_slots = static_cast<int>(plan.num_slots);
  const int num_outputs = static_cast<int>(plan.num_outputs), num_levels = static_cast<int>(plan.num_levels);
  const T* const weight = members.weight + place.weight;
  const auto slot_of_plan = [&](int slot) {
    const int64_t first = plan.out_ptr[slot], split = plan.out_split[slot], node = slot - num_inputs;
    const bool shares = split < plan.out_ptr[slot + 1];
    MemberSlot<C> found{static_cast<int32_t>(first),
                        static_cast<int32_t>(split - first),
                        kind_of(0, 0, shares),
                        -1,
                        plan.output_of_slot[slot],
                        -1,
                        C(1)};
    if (node < 0) return found;
    const int64_t fan_in = plan.in_end[node] - plan.in_begin[node];
    const int32_t aggregation = plan.aggregation[node];
    found.kind = kind_of(plan.activation[node], aggregation, shares);
    found.derivative_row = plan.kept_row[node] >= 0 ? plan.kept_row[node] : slot;
    found.bias = plan.bias_index[node];
    if (static_cast<Aggregation>(aggregation) == Aggregation::kMean && fan_in > 0) found.scale = C(1) / C(fan_in);
    return found;
  };
  const auto edge_of_plan = [&](int i) {
    const int64_t edge = plan.out_edge[i];
    return MemberOutEdge<C>{plan.out_dst[i], static_cast<int32_t>(edge), widened(weight[edge])};
  };
  int32_t* const levels = reinterpret_cast<int32_t*>(shared + at.levels);
  MemberSlot<C>* const slots = reinterpret_cast<MemberSlot<C>*>(shared + at.nodes);
  MemberOutEdge<C>* const edges = reinterpret_cast<MemberOutEdge<C>*>(shared + at.edges);
  if (at.copied) {
    const int num_edges = static_cast<int>(plan.num_live_edges);
    for (int i = threadIdx.x; i <= num_levels; i += blockDim.x) levels[i] = static_cast<int32_t>(plan.level_ptr[i]);
    for (int i = threadIdx.x; i < num_slots; i += blockDim.x) slots[i] = slot_of_plan(i);
    for (int i = threadIdx.x; i < num_edges; i += blockDim.x) edges[i] = edge_of_plan(i);
  }
  const auto level_begin = [&](int level) {
    return at.copied ? levels[level] : static_cast<int32_t>(plan.level_ptr[level]);
  };

  const bool wants_weight = arrays.parameters, wants_bias = arrays.grad_bias;
  C* const partial = arrays.partial ? arrays.partial + split * (arrays.num_edges + arrays.num_biases) : nullptr;
  const Totals<T> weights(partial ? partial + place.weight : nullptr,
                          wants_weight ? arrays.grad_weight + place.weight : nullptr);
  const Totals<T> biases(partial ? partial + arrays.num_edges + place.bias : nullptr,
                         wants_bias ? arrays.grad_bias + place.bias : nullptr);
  // The gradients of edges and nodes that reach no output are 0, and so are all gradients of an empty batch.
  if (wants_weight && (batch == 0 || plan.num_live_edges < plan.num_edges)) weights.clear(plan.num_edges);
  if (wants_bias && (batch == 0 || plan.num_computed() < plan.num_biases)) biases.clear(plan.num_biases);

  // Rows and shares in global memory have the columns of one tile of each split.
  const int64_t width = int64_t{splits} * kColumns;
  const int64_t of_split = int64_t{split} * kColumns;
  const Rows<C> rows = at.resident ? Rows<C>{reinterpret_cast<C*>(shared + kViewBytes), kColumns}
                                   : Rows<C>{arrays.rows + place.row * width + of_split, width};
  const int64_t first_share = arrays.share_rows ? member * arrays.share_rows : place.weight;
  BackwardArrays<T> own{};
  own.weight = weight;
  own.shares = arrays.shares ? arrays.shares + first_share * width + of_split : nullptr;
  T* const grad_x = arrays.grad_x ? arrays.grad_x + member * batch * num_inputs : nullptr;
  const T* const grad_y = arrays.grad_y + member * batch * num_outputs;

  for (int64_t first = of_split; first < batch; first += width) {
    __syncthreads();  // after the copies, and before the rows of the tile before are written again
    const bool add = first > of_split;
    const Rows<const T> tape{arrays.tape + place.row * pitch + first, pitch};
    with_member_lanes<C, kColumns>(plan, [&](auto lanes, int pair) {
      using L = decltype(lanes);
      const int column = L::column();
      const int64_t live = batch - first - column;

      // kept = the sums of the weighted gradients of a slot's linear readers at the lane's columns; adds the gradients
      // of the edges' weights to the totals. values: the slot's own at the columns that the lane reads. Lanes across a
      // row share its edges, and take as many of them before they add up, so that each ends with one edge's sum.
      const auto gather_readers = [&](const MemberSlot<C>& slot, int count, const Pack<T, L::kHeld>& values,
                                      C(&kept)[L::kKept]) {
        constexpr int kAtOnce = L::kAcross;
        const auto edge = [&](int k) { return at.copied ? edges[slot.first + k] : edge_of_plan(slot.first + k); };
        C sums[L::kHeld] = {};
        for (int j = 0; __any_sync(kFullWarp, edge_of_lane<L>(j, pair) < count); j += kAtOnce) {
          C dots[kAtOnce] = {};
#pragma unroll
          for (int i = 0; i < kAtOnce; ++i) {
            const int k = edge_of_lane<L>(j + i, pair);
            if (k >= count) continue;
            const MemberOutEdge<C> read = edge(k);
            const auto grads = load_pack<L::kHeld>(&rows.at(read.row, L::first_column()));
            for (int c = 0; c < L::kHeld; ++c) {
              sums[c] += read.weight * grads.v[c];
              dots[i] += widened(values.v[c]) * grads.v[c];
            }
          }
          if (!wants_weight) continue;
          reduce<1, kAtOnce>(dots);
          const int k = edge_of_lane<L>(j + reduced_column<1, kAtOnce, kAtOnce>(), pair);
          if (k < count) weights.put(edge(k).edge, dots[0], add);
        }
        reduce<L::kAcross, L::kTeam>(sums);
#pragma unroll
        for (int c = 0; c < L::kKept; ++c) kept[c] = sums[c];
      };
      // The sum over a team of numbers that its lanes without copies hold.
      const auto team_sum = [](C value) {
        C one[1] = {value};
        reduce<1, L::kTeam>(one);
        return one[0];
      };
      const bool first_of_team = lane_in_warp() % L::kTeam == 0;

      for (int level = num_levels - 1; level >= 0; --level) {
        each_slot<L>(level_begin(level), level_begin(level + 1), [&](int number, bool mine) {
          const MemberSlot<C> slot = at.copied ? slots[number] : slot_of_plan(number);
          const bool holds = mine && !L::has_copy();
          Pack<T, L::kHeld> values{};
          if (wants_weight) values = load_pack<L::kHeld>(&tape.at(number, L::first_column()));
          Pack<C, L::kKept> value{}, grad;
          if (slot.derivative_row >= 0) {
            value = pack_as<C>(load_pack<L::kKept>(&tape.at(slot.derivative_row, column)));
          }
          gather_readers(slot, mine ? slot.count : 0, values, grad.v);
          C total = 0;  // of the lane's columns, for the bias
          if (holds) {
#pragma unroll
            for (int c = 0; c < L::kKept; ++c) {
              if (slot.output >= 0 && c < live) {
                grad.v[c] += widened(grad_y[(first + column + c) * num_outputs + slot.output]);
              }
              if (has_shares(slot.kind)) grad.v[c] += gather_shares(plan, own, width, number, column + c);
            }
            if (slot.derivative_row >= 0) {
              through_activation(static_cast<Activation>(activation_of(slot.kind)), value.v, grad.v, live);
              const auto aggregation = static_cast<Aggregation>(aggregation_of(slot.kind));
              const int node = number - num_inputs;
#pragma unroll
              for (int c = 0; c < L::kKept; ++c) {
                total += grad.v[c];
                grad.v[c] *= slot.scale;
                if (is_linear(aggregation)) continue;
                const int64_t begin = plan.in_begin[node], count = plan.in_end[node] - begin;
                if (count == 0) continue;
                const auto term = [&](int64_t k) {  // past the batch's end 0, even of an infinite weight
                  const C source = widened(tape.at(plan.in_src[begin + k], column + c));
                  return c < live ? widened(weight[begin + k]) * source : C(0);
                };
                const auto share = [&](int64_t k) -> C& {
                  return own.shares[(plan.share_begin[node] + k) * width + column + c];
                };
                with_nonlinear(aggregation,
                               [&](auto code) { share_out<decltype(code)::value>(count, grad.v[c], term, share); });
              }
            }
            store_pack(&rows.at(number, column), grad);
          }
          if (wants_bias) {
            total = team_sum(total);
            if (mine && first_of_team && slot.bias >= 0) biases.put(slot.bias, total, add);
          }
          if (!wants_weight || !__any_sync(kFullWarp, mine && has_shares(slot.kind))) return;
          // The gradients of weights of edges to readers that are not linear.
          const int64_t end = mine ? plan.out_ptr[number + 1] : 0;
          for (int64_t k = plan.out_split[number]; __any_sync(kFullWarp, k < end); ++k) {
            C sum = 0;
            if (holds && k < end) {
              const int64_t row = share_row(plan, plan.out_dst[k] - num_inputs, plan.out_edge[k]);
              for (int c = 0; c < L::kKept; ++c) {
                sum += widened(tape.at(number, column + c)) * own.shares[row * width + column + c];
              }
            }
            sum = team_sum(sum);
            if (k < end && first_of_team) weights.put(plan.out_edge[k], sum, add);
          }
        });
        __syncthreads();
      }
    });

    if (!grad_x) continue;
    each_of_tile<kColumns>(num_inputs, [&](int i, int c) {
      if (first + c < batch) grad_x[(first + c) * num_inputs + i] = narrowed<T>(rows.at(i, c));
    });
  }
}

// The gradients of parameters from the sums of several blocks [splits, num_edges + num_biases], in order; one thread
// per element.
template <class T>
__global__ void __launch_bounds__(kMemberThreads<T>)
    population_gradient_kernel(const __grid_constant__ PopulationBackward<T> arrays, int splits) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, count = arrays.num_edges + arrays.num_biases;
  if (i >= count) return;
  Compute<T> total = 0;
  for (int64_t s = 0; s < splits; ++s) total += arrays.partial[s * count + i];
  *(i < arrays.num_edges ? arrays.grad_weight + i : arrays.grad_bias + (i - arrays.num_edges)) = narrowed<T>(total);
}

}  // namespace

template <class T>
void population_backward(const PopulationBackward<T>& arrays, const PopulationTiling& tiling, Stream stream) {
  if (!arrays.parameters && (!arrays.grad_x || arrays.members.batch == 0)) return;
  with_tile(tiling.columns, [&](auto columns) {
    launch<population_backward_kernel<decltype(columns)::value, T>>(
        arrays.members.count * tiling.splits, tiling.threads, tiling.shared_bytes, stream, arrays, tiling);
  });
  if (!arrays.partial) return;
  constexpr int kThreads = kMemberThreads<T>;
  launch<population_gradient_kernel<T>>(blocks_of(arrays.num_edges + arrays.num_biases, kThreads), kThreads, 0, stream,
                                        arrays, tiling.splits);
}

#define FREEWIRE_INSTANTIATE(T, tag, name) \
  template void population_backward<T>(const PopulationBackward<T>&, const PopulationTiling&, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda
