// SPDX-License-Identifier: MIT
// Dense blocks; see blocks.h.
#include "planner/blocks.h"

#include <algorithm>
#include <utility>

#include "planner/components.h"
#include "planner/padded.h"
#include "planner/source_hash.h"

namespace freewire::planner {

namespace {

bool are_distinct(std::span<const int32_t> sources) {  // parallel edges follow one another in canonical order
  return std::adjacent_find(sources.begin(), sources.end()) == sources.end();
}

// Two lists of which one source in ten is missing have the same smallest hashes two times in three, random ones hardly
// ever. A level is looked at where kSimilar nodes or more share them, for at least one node of kSimilarShare.
constexpr int32_t kSimilar = 3;
constexpr size_t kSimilarShare = 16;

class Finder {
 public:
  explicit Finder(const InEdges& in) : in_(in), padding_(in), group_(in.num_computed(), -1), next_(in.num_computed()) {}

  Blocks find() {
    Components components = find_components(in_);
    by_component_ = components.ptr.size() > 1;
    const auto count = static_cast<int64_t>(components.nodes.size());
    found_.run_node.reserve(count);
    if (by_component_) {
      for (size_t c = 1; c < components.ptr.size(); ++c) {
        order_levels(
            std::span(components.nodes).subspan(components.ptr[c - 1], components.ptr[c] - components.ptr[c - 1]));
      }
    } else {
      order_levels(components.nodes);
    }
    found_.component = std::move(components.of_slot);
    found_.component_ptr = std::move(components.ptr);
    make_blocks();
    make_stages();
    return std::move(found_);
  }

 private:
  struct Group {
    int64_t size = 0;
    int32_t head = -1;    // first node that is not in the order yet
    int64_t padded = -1;  // where its sources begin in padded_src_, or -1 if all nodes read the same
    int64_t num_sources = 0;
  };

  // Appends the nodes of a component to the order. They are ordered by slot, and so by level.
  void order_levels(std::span<const int32_t> nodes) {
    size_t level = 0;
    for (size_t first = 0, last = 0; first < nodes.size(); first = last) {
      while (in_.level_ptr[level + 1] <= in_.num_inputs + nodes[first]) ++level;
      while (last < nodes.size() && in_.num_inputs + nodes[last] < in_.level_ptr[level + 1]) ++last;
      order_level(nodes.subspan(first, last - first));
    }
  }

  // Appends the nodes of one level, those of a group one after the other in the place of the first.
  void order_level(std::span<const int32_t> nodes) {
    if (nodes.size() < 2) {
      found_.run_node.insert(found_.run_node.end(), nodes.begin(), nodes.end());
      return;
    }
    const size_t groups = groups_.size();
    find_twins(nodes);
    find_padded(nodes);
    if (groups == groups_.size()) {
      found_.run_node.insert(found_.run_node.end(), nodes.begin(), nodes.end());
      return;
    }
    for (size_t i = nodes.size(); i-- > 0;) {
      if (group_[nodes[i]] < 0) continue;
      Group& group = groups_[group_[nodes[i]]];
      next_[nodes[i]] = std::exchange(group.head, nodes[i]);
    }
    for (const int32_t node : nodes) {
      if (group_[node] < 0) {
        found_.run_node.push_back(node);
        continue;
      }
      int32_t each = std::exchange(groups_[group_[node]].head, -1);
      for (; each >= 0; each = next_[each]) found_.run_node.push_back(each);
    }
  }

  // Groups nodes with the same sources. Four of the sources tell most nodes apart; only where they do not, the others
  // are read.
  void find_twins(std::span<const int32_t> nodes) {
    readers_.clear();
    for (const int32_t node : nodes) {
      if (in_.linear[node] && in_.sources(node).size() >= kMinSources) readers_.push_back(node);
    }
    hash_readers(hash_some_sources);
    size_t kept = 0;
    for (size_t i = 0; i < readers_.size(); ++i) {
      if (counts_[firsts_[i]] > 1) readers_[kept++] = readers_[i];
    }
    readers_.resize(kept);
    hash_readers(hash_sources);
    for (size_t i = 0; i < readers_.size(); ++i) {
      const int32_t twin = readers_[firsts_[i]], node = readers_[i];
      if (twin == node || !std::ranges::equal(in_.sources(twin), in_.sources(node))) continue;
      if (group_[twin] < 0) {
        group_[twin] = static_cast<int32_t>(groups_.size());
        groups_.push_back({1});
      }
      group_[node] = group_[twin];
      ++groups_[group_[node]].size;
    }
  }

  // Finds the first of the readers with the same hash, and how many have it.
  template <class Hash>
  void hash_readers(Hash hash) {
    hashes_.clear();
    for (const int32_t node : readers_) hashes_.push_back(hash(in_.sources(node)));
    counts_.assign(readers_.size(), 0);
    firsts_.resize(readers_.size());
    table_.start(readers_.size());
    for (size_t i = 0; i < readers_.size(); ++i) {
      firsts_[i] = table_.first(hashes_, static_cast<int32_t>(i));
      ++counts_[firsts_[i]];
    }
  }

  bool is_exact_block(int32_t node) const {
    const int32_t group = group_[node];
    return group >= 0 && groups_[group].padded < 0 && groups_[group].size >= static_cast<int64_t>(kMinNodes) &&
           are_distinct(in_.sources(node));
  }

  // Groups nodes with nearly the same sources. Only levels where enough nodes seem to have some are looked at.
  void find_padded(std::span<const int32_t> nodes) {
    readers_.clear();
    for (const int32_t node : nodes) {
      if (in_.linear[node] && in_.fan_in(node) >= kPaddedNodeSources && !is_exact_block(node)) readers_.push_back(node);
    }
    if (readers_.size() < kPaddedNodes) return;
    hash_readers(smallest_hashes);
    size_t similar = 0;
    for (const int32_t count : counts_) similar += count >= kSimilar ? static_cast<size_t>(count) : 0;
    if (similar == 0 || similar * kSimilarShare < readers_.size()) return;
    for (const PaddedGroups::Group& padded : padding_.find(readers_)) {
      for (const int32_t node : padded.nodes) {
        if (group_[node] >= 0) --groups_[group_[node]].size;
        group_[node] = static_cast<int32_t>(groups_.size());
      }
      groups_.push_back({static_cast<int64_t>(padded.nodes.size()), -1, static_cast<int64_t>(padded_src_.size()),
                         static_cast<int64_t>(padded.sources.size())});
      padded_src_.insert(padded_src_.end(), padded.sources.begin(), padded.sources.end());
    }
  }

  // Blocks of the groups, and triangles of the nodes between them.
  void make_blocks() {
    const auto count = static_cast<int64_t>(found_.run_node.size());
    found_.src_ptr.push_back(0);
    found_.in_split.assign(in_.begin.begin(), in_.begin.end());
    for (int64_t position = 0; position < count;) {
      const int32_t node = found_.run_node[position];
      const int32_t group = group_[node];
      if (group >= 0) {
        const int64_t size = groups_[group].size;
        if (groups_[group].padded >= 0) {
          const auto sources = std::span(padded_src_).subspan(groups_[group].padded, groups_[group].num_sources);
          add_block(position, size, sources, found_.num_panel);
          found_.num_panel += size * static_cast<int64_t>(sources.size());
        } else if (is_exact_block(node)) {
          add_block(position, size, in_.sources(node), -1);
        }
        position += size;
        continue;
      }
      const int64_t size = chain(position);
      if (size >= static_cast<int64_t>(kMinNodes) && are_distinct(in_.sources(node))) {
        add_block(position, size, in_.sources(node), -1);
      }
      position += size;
    }
  }

  void add_block(int64_t position, int64_t size, std::span<const int32_t> sources, int64_t panel) {
    found_.begin.push_back(static_cast<int32_t>(position));
    found_.end.push_back(static_cast<int32_t>(position + size));
    found_.src.insert(found_.src.end(), sources.begin(), sources.end());
    found_.src_ptr.push_back(static_cast<int64_t>(found_.src.size()));
    found_.panel.push_back(panel);
    for (int64_t i = 0; i < size; ++i) {
      const int32_t node = found_.run_node[position + i];
      found_.in_split[node] = panel < 0 ? in_.begin[node] + static_cast<int64_t>(sources.size()) : in_.end[node];
    }
  }

  // How many nodes from a position on form a triangle: 1 or more. Each pair of neighbours is compared once.
  int64_t chain(int64_t position) const {
    const auto& run = found_.run_node;
    const auto count = static_cast<int64_t>(run.size());
    int64_t size = 1;
    if (!in_.linear[run[position]] || in_.fan_in(run[position]) < kTriangleSources) return size;
    while (size < kTriangleNodes && position + size < count &&
           continues(run[position + size - 1], run[position + size]))
      ++size;
    return size;
  }

  // Whether the second node reads the sources of the first, and the first.
  bool continues(int32_t first, int32_t second) const {
    const auto before = in_.sources(first), sources = in_.sources(second);
    return sources.size() == before.size() + 1 && sources.back() == in_.num_inputs + first && in_.linear[second] &&
           group_[second] < 0 && (by_component_ || (is_alone(first) && is_alone(second))) &&
           std::ranges::equal(before, sources.first(before.size()));
  }

  // Whether a node is the only one of its level.
  bool is_alone(int32_t node) const {
    const int64_t slot = in_.num_inputs + node;
    const auto next = std::ranges::upper_bound(in_.level_ptr, slot);
    return *next == slot + 1 && *(next - 1) == slot;
  }

  void make_stages() {
    found_.stage_ptr.push_back(0);
    if (by_component_) return;
    size_t block = 0;
    for (const int64_t slot : in_.level_ptr) {
      const int64_t position = slot - in_.num_inputs;
      while (block < found_.end.size() && found_.end[block] <= position) ++block;
      const bool inside = block < found_.end.size() && found_.begin[block] < position;
      if (position > found_.stage_ptr.back() && !inside) found_.stage_ptr.push_back(position);
    }
  }

  const InEdges& in_;
  Blocks found_;
  PaddedGroups padding_;
  bool by_component_ = false;
  std::vector<Group> groups_;
  std::vector<int32_t> padded_src_;
  std::vector<int32_t> group_, next_;  // [C] a node's group, or -1; the next node of its group
  // Of the level at hand: nodes that may be in a block, their hashes, and by hash the first of them and their number.
  std::vector<int32_t> readers_, firsts_, counts_;
  std::vector<uint64_t> hashes_;
  HashTable table_;
};

}  // namespace

void Blocks::panel_columns(const InEdges& in, std::span<int32_t> to) const {
  std::ranges::fill(to, 0);
  std::vector<int32_t> column(in.num_slots());
  for (size_t b = 0; b < begin.size(); ++b) {
    if (panel[b] < 0) continue;
    for (int64_t i = src_ptr[b]; i < src_ptr[b + 1]; ++i) column[src[i]] = static_cast<int32_t>(i - src_ptr[b]);
    for (int32_t position = begin[b]; position < end[b]; ++position) {
      const int32_t node = run_node[position];
      for (int64_t e = in.begin[node]; e < in.end[node]; ++e) to[e] = column[in.source[e]];
    }
  }
}

Blocks find_blocks(const InEdges& in) { return Finder(in).find(); }

}  // namespace freewire::planner
