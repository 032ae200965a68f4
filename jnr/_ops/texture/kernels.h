#pragma once

#include <cstdint>

#include "../barycentrics/kernels.h"
#include "../cpp/variants.h"

namespace jnr {

// A level of an image's pyramid: an array (rows, columns, channels), of which the first `height` rows and `width`
// columns are in use.
struct MipLevel {
  int64_t rows, columns, height, width, channels;
};

// Where a level of an image is in the table of texels: its first row, the distance of rows, its size, and how it
// continues outside.
struct MipPlace {
  int32_t first, stride, height, width, across, up;
};

// Textures of one item of a batch: the table (rows, channels) of all levels of all images, and where each level is.
// `stride` numbers per pixel: u, v and, if there are levels, the derivatives of (u, v) by column and by row.
template <typename T>
struct TextureItem {
  const T* texels;
  const T* coordinates;
  const int32_t* material;
  const MipPlace* places;
  int64_t rows, channels, stride, images, levels;
  bool nearest;
};

// What texture coordinates at pixels are computed from.
template <typename T>
struct UVItem {
  BarycentricsItem<T> mesh;
  const T* uv;
  const T* barycentric;
  const int32_t* uv_faces;
  int64_t num_uv;
};

template <typename T>
struct TextureKernels {
  // Writes rows [begin, end) of the level above `finer`. `scratch` has room for a row of the finer level.
  void (*halve)(const MipLevel& finer, const T* from, int64_t begin, int64_t end, T* scratch, T* to);
  // Adds to rows [begin, end) of `grad`, of the finer level, their own cotangent and that of the level above.
  void (*add_halved)(const MipLevel& finer, const T* own, const T* above, int64_t begin, int64_t end, T* scratch,
                     T* grad);
  // Writes u, v and their derivatives by column and by row of pixels [begin, end); and adds the cotangents of the clip
  // positions, the texture coordinates and the barycentrics to `grad`.
  void (*uv_and_steps)(const UVItem<T>& item, int64_t begin, int64_t end, T* coordinates);
  void (*add_clip_positions)(const UVItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
  void (*add_uv)(const UVItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
  void (*add_barycentric)(const UVItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
  // Writes the colours of pixels [begin, end), and adds the cotangents of the texels and of the coordinates.
  void (*sample_texels)(const TextureItem<T>& item, int64_t begin, int64_t end, T* colors);
  void (*add_texels)(const TextureItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
  void (*add_coordinates)(const TextureItem<T>& item, const T* cotangent, int64_t begin, int64_t end, T* grad);
};

JNR_DECLARE_KERNELS(TextureKernels, texture_kernels)

}  // namespace jnr
