// SPDX-License-Identifier: MIT
// The width of the tile that the bindings of a network run.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "cuda/network/workspace.h"

namespace freewire::cuda {

// The number in $FREEWIRE_CUDA_TILE, if it is set.
inline std::optional<int> requested_tile() {
  const char* requested = std::getenv("FREEWIRE_CUDA_TILE");
  if (!requested) return std::nullopt;
  const std::string text(requested);
  for (const int columns : {0, 2, 4, 8, 16, 32}) {
    if (text == std::to_string(columns)) return columns;
  }
  STD_TORCH_CHECK(false, "FREEWIRE_CUDA_TILE: expected 0, 2, 4, 8, 16 or 32, got \"", text, "\". Unset it.");
  return std::nullopt;
}

// tile_columns(), or the number in $FREEWIRE_CUDA_TILE (0 means streamed); raises if a tile of that width does not fit.
inline int chosen_tile(const PlanSizes& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device) {
  const std::optional<int> requested = requested_tile();
  if (!requested) return tile_columns(plan, batch, rows, itemsize, device);
  const int widest = widest_tile(plan, rows, itemsize, device);
  STD_TORCH_CHECK(*requested <= widest, "FREEWIRE_CUDA_TILE: expected at most ", widest,
                  " columns, the most that fit into this GPU's shared memory for this network's ", rows, " rows, got ",
                  *requested, ". Set it to 0 to stream, or unset it.");
  return *requested;
}

}  // namespace freewire::cuda
