// What the binding calls and the kernels share. Plain structs and pointers: kernels.cc and kernels_v3.cc are the same
// code for different processors, so nothing that the linker could merge between them may be instantiated there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jnr {

enum Cull : int64_t { kDrawBoth = 0, kCullBack = 1, kCullFront = 2 };

// A vertex in pixel space, see jnr/_xla/geometry.py.
template <typename T>
struct Vertex {
  T x, y, w, z;
};

// Where a vertex lies in the image. Its column is infinite behind the near plane, and not a number where the vertex is
// none. Apart from the rest, so that the cache holds more of what every face needs.
template <typename T>
struct Point {
  T column, row;
};

template <typename T>
struct RasterizeItem {
  const Vertex<T>* vertices;
  const Point<T>* points;
  const int32_t* faces;
  int64_t num_vertices, num_faces;
  int64_t height, width, cull;
  // The image is drawn in bands of so many rows.
  int64_t band_rows;
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

template <typename T>
struct ResolveItem {
  const T* clip;
  const int32_t* faces;
  const int32_t* face_index;
  int64_t num_vertices, num_faces, height, width;
};

// How values (count, channels) are made of weights (count, terms, each) and a table (groups, each, channels), of which
// the index (count, terms) names groups.
struct Blend {
  const int32_t* index;
  int64_t groups, terms, each, channels;
};

// Columns at once; arrays that are read by whole vectors are padded to a multiple of it.
constexpr int64_t kLanes = 8;
// Faces of which it is asked at once whether they touch a band.
constexpr int64_t kFacesAtOnce = 32;
// Lines that are brought into the cache together.
constexpr int64_t kLineBlock = 16;

// Rows of a table by their index, of zeros (integers: -1) where it is none, for indices [begin, end).
template <typename T>
using TakeRows = void (*)(const T* table, int64_t rows, int64_t channels, const int32_t* index, int64_t begin,
                          int64_t end, T* taken);

template <typename T>
struct Kernels {
  // Vertices [begin, end) from clip positions (vertices, 4), and their points unless that is null.
  void (*place_vertices)(const T* clip, int64_t begin, int64_t end, int64_t height, int64_t width, Vertex<T>* vertices,
                         Point<T>* points);
  // First and last band that faces [begin, end) may touch, the first beyond the last for none.
  void (*find_bands)(const RasterizeItem<T>& item, int64_t begin, int64_t end, uint8_t* first, uint8_t* last);
  // A band of an item's image; `depth` and `index` hold (rows of a band, width in whole vectors), `first` and `last` the
  // faces in whole kFacesAtOnce, of which those beyond the last touch no band.
  void (*rasterize_band)(const RasterizeItem<T>& item, int64_t band, const uint8_t* first, const uint8_t* last,
                         float* depth, int32_t* index);
  // Adds to `grad` (vertices,) the cotangent of the clip coordinate along lines [first, end): rows (axis 1) or columns
  // (axis 0) of the image. `scratch` has sweep_scratch(..) numbers.
  void (*sweep_lines)(const SweepItem<T>& item, int axis, int64_t first, int64_t end, T* grad, T* scratch);
  // Barycentrics of pixels [begin, end), three numbers each.
  void (*resolve)(const ResolveItem<T>& item, int64_t begin, int64_t end, T* resolved);
  // Adds to `grad` (vertices, 4) the cotangent of the clip positions from that of what `resolve` makes.
  void (*resolve_bwd)(const ResolveItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
  TakeRows<T> take_rows;
  // Adds values (count, channels) to the rows [begin, end) of `table` that their index names, in their order.
  void (*add_rows)(const T* values, const int32_t* index, int64_t count, int64_t channels, int64_t begin, int64_t end,
                   T* table);
  // The three of jnr/_xla/rows.py for values [begin, end); spread_rows adds to the table.
  void (*blend_rows)(const Blend& blend, const T* table, const T* weights, int64_t begin, int64_t end, T* values);
  void (*spread_rows)(const Blend& blend, const T* values, const T* weights, int64_t begin, int64_t end, T* table);
  void (*match_rows)(const Blend& blend, const T* values, const T* table, int64_t begin, int64_t end, T* weights);
};

int64_t sweep_scratch(int64_t length, int64_t channels);

extern const Kernels<float> kFloat, kFloatV3;
extern const Kernels<double> kDouble, kDoubleV3;
extern const TakeRows<int32_t> kTakeInts;

}  // namespace jnr
