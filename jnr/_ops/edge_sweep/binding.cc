// Custom calls jnr_edge_sweep_bwd_*.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "../cpp/buffers.h"
#include "../cpp/placement.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

constexpr char kEps[] = "eps", kSilhouettesOnly[] = "silhouettes_only";

template <ffi::DataType kType>
ffi::Error edge_sweep_bwd(Threads threads, ffi::Buffer<kType, 4> image, ffi::Buffer<kType, 4> cotangent,
                          ffi::Buffer<kType, 3> clip_positions, ffi::Buffer<ffi::S32, 3> faces,
                          ffi::Buffer<ffi::S32, 3> face_index, ffi::Buffer<kType, 3> depth_limit,
                          ffi::Attr<double, kEps> eps, ffi::Attr<bool, kSilhouettesOnly> silhouettes_only,
                          ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*grad, 0), num_vertices = dim(*grad, 1), num_faces = dim(faces, 1);
  int64_t height = dim(image, 1), width = dim(image, 2), channels = dim(image, 3);
  const bool occlusion = dim(depth_limit, 1) > 0;
  if (!has_shape(image, batch, {height, width, channels}) || !has_shape(cotangent, batch, {height, width, channels}) ||
      !has_shape(clip_positions, batch, {num_vertices, 4}) || !has_shape(faces, batch, {num_faces, 3}) ||
      !has_shape(face_index, batch, {height, width}) || dim(*grad, 2) != 4 ||
      (occlusion && !has_shape(depth_limit, batch, {height, width})))
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  if (batch == 0) return ffi::Error::Success();
  const UsedSizes used = find_used_sizes(threads, faces, batch, num_vertices);
  auto placed = to_pixel_space<T>(threads, clip_positions, used, height, width, false);
  // Parts of an axis have sums of their own, which are added in order.
  int64_t parts = image_parts(height * width);
  std::vector<std::unique_ptr<T[]>> sums(size_t(batch * 2 * parts));
  parallel_for(threads, batch * 2 * parts, [&](int64_t task) {
    int64_t item = task / (2 * parts), axis = task / parts % 2, part = task % parts;
    int64_t lines = axis ? height : width, length = axis ? width : height;
    EdgeSweepItem<T> one{.image = item_data(image, item),
                         .cotangent = item_data(cotangent, item),
                         .vertices = placed.vertices.get() + placed.offset(item),
                         .faces = item_data(faces, item),
                         .face_index = item_data(face_index, item),
                         .depth_limit = occlusion ? item_data(depth_limit, item) : nullptr,
                         .num_vertices = used.vertices[item],
                         .num_faces = used.faces[item],
                         .height = height,
                         .width = width,
                         .channels = channels,
                         .eps = T(*eps),
                         .silhouettes_only = *silhouettes_only};
    sums[task].reset(new T[used.vertices[item]]());
    std::unique_ptr<T[]> numbers(new T[sweep_numbers(length, channels)]);
    std::unique_ptr<int32_t[]> integers(new int32_t[sweep_integers(length)]);
    edge_sweep_kernels<T>().sweep_lines(one, int(axis), lines * part / parts, lines * (part + 1) / parts,
                                        {numbers.get(), integers.get()}, sums[task].get());
  });
  parallel_for_blocks(threads, batch, num_vertices, [&](int64_t item, int64_t begin, int64_t end) {
    const T* clip = item_data(clip_positions, item);
    T* to = grad->typed_data() + item * num_vertices * 4;
    const int64_t end_used = std::clamp(used.vertices[item], begin, end);
    std::fill(to + 4 * end_used, to + 4 * end, T(0));
    for (int64_t v = begin; v < end_used; ++v) {
      T along[2] = {0, 0};
      for (int64_t axis = 0; axis < 2; ++axis)
        for (int64_t part = 0; part < parts; ++part) along[axis] += sums[(item * 2 + axis) * parts + part][v];
      // Rows grow downwards and y upwards. NDC x is x / w, so w has a cotangent too.
      const T x = along[1], y = -along[0], w = clip[4 * v + 3];
      const T toward = x * clip[4 * v] + y * clip[4 * v + 1];
      const bool valid = w > 0 && std::isfinite(clip[4 * v] + clip[4 * v + 1] + clip[4 * v + 2] + w);
      to[4 * v] = x;
      to[4 * v + 1] = y;
      to[4 * v + 2] = 0;
      to[4 * v + 3] = valid ? -toward / w : T(0);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(edge_sweep_bwd)
