#pragma once

#include <cstdint>

#include "../cpp/variants.h"

namespace jnr {

// Points of surfaces and what lights them; the shapes are those of definition.py.
template <typename T>
struct LitSurface {
  const T* surface;
  int64_t columns;  // 4, or 8 with highlights
  const T* albedo;
  const T* side;
  const T* ambient;    // (channels)
  const T* lights;     // (num_lights, 6 + channels): vector towards the light, the same with length 1, colour
  const T* highlight;  // (channels + 1)
  const T* viewer;
  int64_t num_lights, channels;
};

// The first index of a kernel says whether it computes three channels at a time or one, the second whether there are
// highlights.
template <typename T>
struct LightingKernels {
  // Colours (count, channels) of points [begin, end).
  void (*lit_colors[2][2])(const LitSurface<T>& of, int64_t begin, int64_t end, T* colors);
  // Cotangents of points [begin, end) added to those of the surface (count, columns) and of the albedo.
  void (*add_surface[2][2])(const LitSurface<T>& of, const T* cotangent, int64_t begin, int64_t end, T* grad);
  void (*add_albedo[2])(const LitSurface<T>& of, const T* cotangent, int64_t begin, int64_t end, T* grad);
  // `lights` of LitSurface from rows [1, 1 + num_lights) of the op's operand.
  void (*prepare_lights)(const T* rows, int64_t num_lights, int64_t channels, T* lights);
};

JNR_DECLARE_KERNELS(LightingKernels, lighting_kernels)

}  // namespace jnr
