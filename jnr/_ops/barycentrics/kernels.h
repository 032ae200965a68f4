#pragma once

#include <cstdint>

#include "../cpp/variants.h"

namespace jnr {

// One item of a batch.
template <typename T>
struct BarycentricsItem {
  const T* clip;
  const int32_t* faces;
  const int32_t* face_index;
  int64_t num_vertices, num_faces, height, width;
};

template <typename T>
struct BarycentricsKernels {
  // Writes the barycentrics (pixels, 3) of pixels [begin, end).
  void (*barycentrics)(const BarycentricsItem<T>& item, int64_t begin, int64_t end, T* barycentrics);
  // Adds to `grad` (vertices, 4) the cotangent of the clip positions from that of the barycentrics of these pixels.
  void (*barycentrics_bwd)(const BarycentricsItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
};

JNR_DECLARE_KERNELS(BarycentricsKernels, barycentrics_kernels)

}  // namespace jnr
