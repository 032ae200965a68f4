#pragma once

#include <cstdint>

#include "../cpp/variants.h"
#include "../cpp/vectors.h"
#include "../cpp/vertices.h"

namespace jnr {

// Faces that are not rasterized, by the side that is seen; 0 for neither.
enum Cull : int64_t { kCullBack = 1, kCullFront = 2 };

// One item of a batch.
template <typename T>
struct RasterizeItem {
  const Vertex<T>* vertices;
  const Point<T>* points;
  const int32_t* faces;
  int64_t num_vertices, num_faces;
  int64_t height, width, cull;
  // The image is rasterized in bands of this many rows, whole tiles.
  int64_t band_rows;
  int32_t* face_index;
};

// Per face the first and last band that it may touch, the first beyond the last where it touches none. Padded to whole
// groups of kFaceGroup faces that touch none.
struct FaceBands {
  uint8_t *first, *last;
};

// Nearest depth and its face per pixel of a band; rows are padded_length(width) apart.
struct DepthBuffer {
  float* depth;
  int32_t* index;
};

// Tiles are squares whose rows are one vector.
constexpr int64_t kTile = kLanes;
// Faces that are tested together for whether they touch a band.
constexpr int64_t kFaceGroup = 32;

template <typename T>
struct RasterizeKernels {
  // Writes the bands of faces [begin, end).
  void (*find_bands)(const RasterizeItem<T>& item, int64_t begin, int64_t end, FaceBands bands);
  // Writes a band of the item's face_index. `buffer` has the size of a band and is written before it is read.
  void (*rasterize_band)(const RasterizeItem<T>& item, int64_t band, FaceBands bands, DepthBuffer buffer);
};

JNR_DECLARE_KERNELS(RasterizeKernels, rasterize_kernels)

}  // namespace jnr
