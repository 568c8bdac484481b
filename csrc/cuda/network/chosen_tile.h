// SPDX-License-Identifier: MIT
// The width of the tile that the bindings of a network run.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "cuda/network/workspace.h"

namespace freewire::cuda {

// tile_columns(), or the number in $FREEWIRE_CUDA_TILE (0 means streamed); raises if a tile of that width does not fit.
inline int chosen_tile(const PlanSizes& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device) {
  const char* requested = std::getenv("FREEWIRE_CUDA_TILE");
  if (!requested) return tile_columns(plan, batch, rows, itemsize, device);
  const std::string text(requested);
  const int widest = widest_tile(plan, rows, itemsize, device);
  for (const int columns : {0, 2, 4, 8, 16, 32}) {
    if (text != std::to_string(columns)) continue;
    STD_TORCH_CHECK(columns <= widest, "FREEWIRE_CUDA_TILE: expected at most ", widest,
                    " columns, the most that fit into this GPU's shared memory for this network's ", rows,
                    " rows, got ", columns, ". Set it to 0 to stream, or unset it.");
    return columns;
  }
  STD_TORCH_CHECK(false, "FREEWIRE_CUDA_TILE: expected 0, 2, 4, 8, 16 or 32, got \"", text, "\". Unset it.");
  return 0;
}

}  // namespace freewire::cuda
