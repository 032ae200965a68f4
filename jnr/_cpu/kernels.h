// What the binding calls and the kernels share. Plain structs and pointers: kernels.cc and kernels_v3.cc are the same
// code for different processors, so nothing that the linker could merge between them may be instantiated there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jnr {

enum Cull : int64_t { kDrawBoth = 0, kCullBack = 1, kCullFront = 2 };

// A vertex in pixel space (see jnr/_xla/geometry.py), and where it lies in the image.
template <typename T>
struct Vertex {
  T x, y, w, z;
  T column, row;
  // 0: not a number, 1: behind the near plane, 2: in front of it.
  int32_t place;
};

template <typename T>
struct RasterizeItem {
  const Vertex<T>* vertices;
  const int32_t* faces;
  int64_t num_vertices, num_faces;
  int64_t height, width, cull;
  int32_t* face_index;
};

template <typename T>
struct SweepItem {
  const T* image;
  const T* cotangent;
  const Vertex<T>* vertices;
  const int32_t* faces;
  const int32_t* face_index;
  int64_t num_vertices, num_faces, height, width, channels;
  T eps;
};

// Columns at once; arrays that are read by whole vectors are padded to a multiple of it.
constexpr int64_t kLanes = 8;
// Lines that are brought into the cache together.
constexpr int64_t kLineBlock = 16;

template <typename T>
struct Kernels {
  // Pixel-space vertices [begin, end) from clip positions (vertices, 4).
  void (*place_vertices)(const T* clip, int64_t begin, int64_t end, int64_t height, int64_t width, Vertex<T>* out);
  // Rows [first_row, end_row) of an item's image; `depth` and `index` hold (rows, padded width).
  void (*rasterize_rows)(const RasterizeItem<T>& item, int64_t first_row, int64_t end_row, float* depth, int32_t* index);
  // Adds to `grad` (vertices,) the cotangent of the clip coordinate along lines [first, end): rows (axis 1) or columns
  // (axis 0) of the image. `scratch` has sweep_scratch(..) numbers.
  void (*sweep_lines)(const SweepItem<T>& item, int axis, int64_t first, int64_t end, T* grad, T* scratch);
};

int64_t sweep_scratch(int64_t length, int64_t channels);

extern const Kernels<float> kFloat, kFloatV3;
extern const Kernels<double> kDouble, kDoubleV3;

}  // namespace jnr
