// Vertices in pixel space of a whole batch, without the padding of its meshes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "buffers.h"
#include "threads.h"
#include "vertices.h"

namespace jnr {

// Numbers of faces and vertices of each item. Trailing faces of padding and vertices that no face has are left out.
struct UsedSizes {
  std::vector<int64_t> faces, vertices;
};

template <typename Faces>
UsedSizes find_used_sizes(Threads threads, const Faces& faces, int64_t batch, int64_t num_vertices) {
  int64_t sets = dim(faces, 0), num_faces = dim(faces, 1);
  UsedSizes used{std::vector<int64_t>(batch, 0), std::vector<int64_t>(batch, 0)};
  parallel_for(threads, std::min(sets, batch), [&](int64_t set) {
    const int32_t* index = item_data(faces, set);
    int64_t count = num_faces;
    while (count > 0 && index[3 * count - 3] < 0) --count;
    int32_t highest = -1;
    for (int64_t i = 0; i < 3 * count; ++i) highest = std::max(highest, index[i]);
    used.faces[set] = count;
    used.vertices[set] = std::min<int64_t>(int64_t(highest) + 1, num_vertices);
  });
  for (int64_t item = 1; item < batch && sets == 1; ++item) {
    used.faces[item] = used.faces[0];
    used.vertices[item] = used.vertices[0];
  }
  return used;
}

// The vertices of all items, or of the one set that they share, and their points if there are any.
template <typename T>
struct PixelSpaceVertices {
  int64_t sets, num_vertices;
  std::unique_ptr<Vertex<T>[]> vertices;
  std::unique_ptr<Point<T>[]> points;

  int64_t offset(int64_t item) const { return sets == 1 ? 0 : item * num_vertices; }
};

template <typename T, typename Buffer>
PixelSpaceVertices<T> to_pixel_space(Threads threads, const Buffer& clip_positions, const UsedSizes& used,
                                     int64_t height, int64_t width, bool with_points) {
  int64_t sets = dim(clip_positions, 0), num_vertices = dim(clip_positions, 1);
  PixelSpaceVertices<T> placed{sets, num_vertices, nullptr, nullptr};
  placed.vertices.reset(new Vertex<T>[sets * num_vertices]);
  if (with_points) placed.points.reset(new Point<T>[sets * num_vertices]);
  const int64_t most_used = *std::max_element(used.vertices.begin(), used.vertices.end());
  parallel_for_blocks(threads, sets, num_vertices, [&](int64_t set, int64_t begin, int64_t end) {
    int64_t offset = set * num_vertices, count = sets == 1 ? most_used : used.vertices[set];
    vertex_kernels<T>().place_vertices(clip_positions.typed_data() + 4 * offset, begin, std::min(count, end), height,
                                       width, placed.vertices.get() + offset,
                                       with_points ? placed.points.get() + offset : nullptr);
  });
  return placed;
}

}  // namespace jnr
