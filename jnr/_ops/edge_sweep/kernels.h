#pragma once

#include <cstdint>

#include "../cpp/variants.h"
#include "../cpp/vectors.h"
#include "../cpp/vertices.h"

namespace jnr {

// One item of a batch.
template <typename T>
struct EdgeSweepItem {
  const T* image;
  const T* cotangent;
  const Vertex<T>* vertices;
  const int32_t* faces;
  const int32_t* face_index;
  // The NDC depth beyond which each pixel hides an edge; null if no pixel hides any.
  const T* depth_limit;
  int64_t num_vertices, num_faces, height, width, channels;
  T eps;
  bool silhouettes_only;
};

// Lines that are scanned together, so that cache lines are used in full.
constexpr int64_t kLineBlock = 16;

namespace {

// Distance between arrays of one number per pixel of a line. Not a power of two: such strides share few cache sets. The
// padding holds the end of the runs and the rest of a vector.
constexpr int64_t line_stride(int64_t length) { return padded_length(length) + 2 * kLanes; }

// Per line of a block, the columns, colours and cotangents of the active pixels; a colour, and columns and gains for
// it.
constexpr int64_t sweep_numbers(int64_t length, int64_t channels) {
  return (kLineBlock * (2 * channels + 1) + 2) * line_stride(length) + channels;
}
// Per line of a block, its runs.
constexpr int64_t sweep_integers(int64_t length) { return kLineBlock * 2 * line_stride(length); }

}  // namespace

template <typename T>
struct SweepScratch {
  T* numbers;         // sweep_numbers(length, channels)
  int32_t* integers;  // sweep_integers(length)
};

template <typename T>
struct EdgeSweepKernels {
  // Adds to `grad` (vertices,) the cotangent of the clip coordinate along lines [first, end): rows (axis 1) or columns
  // (axis 0) of the image.
  void (*sweep_lines)(const EdgeSweepItem<T>& item, int axis, int64_t first, int64_t end, SweepScratch<T> scratch,
                      T* grad);
};

JNR_DECLARE_KERNELS(EdgeSweepKernels, edge_sweep_kernels)

}  // namespace jnr
