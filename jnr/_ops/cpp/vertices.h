// Vertices in pixel space, which rasterize and edge_sweep read; see jnr/_ops/pixel_space.py.
#pragma once

#include <cstdint>

#include "variants.h"

namespace jnr {

// x / w is a column and y / w a row.
template <typename T>
struct Vertex {
  T x, y, w, z;
};

// A vertex's place in the image. The column is infinite behind the near plane and NaN where the vertex is not finite.
// Apart from Vertex, so that the cache holds more of what every face needs.
template <typename T>
struct Point {
  T column, row;
};

template <typename T>
struct VertexKernels {
  // Writes vertices [begin, end) from clip positions (vertices, 4), and their points unless `points` is null.
  void (*place_vertices)(const T* clip, int64_t begin, int64_t end, int64_t height, int64_t width, Vertex<T>* vertices,
                         Point<T>* points);
};

JNR_DECLARE_KERNELS(VertexKernels, vertex_kernels)

}  // namespace jnr
