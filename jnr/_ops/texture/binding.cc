// Custom calls jnr_mip_pyramid_*, jnr_uv_and_steps_*, jnr_sample_texels_*, and jnr_*_bwd_* of each.

#include <algorithm>
#include <memory>
#include <vector>

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

constexpr char kLevels[] = "levels", kNearest[] = "nearest";
using Levels = ffi::Attr<int64_t, kLevels>;
using Nearest = ffi::Attr<int64_t, kNearest>;

// The levels of an image (rows, columns, channels) of which `size` (height, width) is in use, one after the other in a
// table, and where each begins.
struct Pyramid {
  std::vector<MipLevel> levels;
  std::vector<int64_t> first;
  int64_t rows = 0;

  Pyramid(int64_t image_rows, int64_t image_columns, int64_t channels, const int32_t* size, int64_t count) {
    MipLevel level{image_rows, image_columns, size[0], size[1], channels};
    auto halved = [](int64_t n) { return std::max<int64_t>(n / 2, 1); };
    for (int64_t k = 0; k < count; ++k) {
      levels.push_back(level), first.push_back(rows);
      rows += level.rows * level.columns;
      level = {halved(level.rows), halved(level.columns), halved(level.height), halved(level.width), channels};
    }
  }
};

// Rows of a level in blocks: task(begin, end, scratch), with room for a row of the level.
template <typename T, typename Task>
void for_rows(Threads threads, int64_t rows, const MipLevel& level, Task task) {
  int64_t block = std::max<int64_t>(4 * kBlock / std::max<int64_t>(level.columns * level.channels, 1), 1);
  int64_t blocks = (rows + block - 1) / block;
  parallel_for(threads, blocks, [&](int64_t k) {
    std::unique_ptr<T[]> scratch(new T[level.columns * level.channels]);
    task(k * block, std::min(rows, (k + 1) * block), scratch.get());
  });
}

template <ffi::DataType kType>
ffi::Error mip_pyramid(Threads threads, ffi::Buffer<kType, 4> image, ffi::Buffer<ffi::S32, 2> size, Levels count,
                       ffi::ResultBuffer<kType, 3> table) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*table, 0), rows = dim(image, 1), columns = dim(image, 2), channels = dim(image, 3);
  const int32_t one[2] = {1, 1};
  if (!has_batch(image, batch) || !has_shape(size, batch, {2}) || dim(*table, 2) != channels ||
      Pyramid(rows, columns, channels, one, *count).rows != dim(*table, 1))
    return shape_error();
  for (int64_t item = 0; item < batch; ++item) {
    const Pyramid pyramid(rows, columns, channels, item_data(size, item), *count);
    T* to = item_data(*table, item);
    const T* from = item_data(image, item);
    for_rows<T>(threads, rows, pyramid.levels[0], [&](int64_t begin, int64_t end, T*) {
      std::copy(from + begin * columns * channels, from + end * columns * channels, to + begin * columns * channels);
    });
    for (int64_t k = 1; k < *count; ++k) {
      const MipLevel& finer = pyramid.levels[k - 1];
      for_rows<T>(threads, pyramid.levels[k].rows, finer, [&](int64_t begin, int64_t end, T* scratch) {
        texture_kernels<T>().halve(finer, to + pyramid.first[k - 1] * channels, begin, end, scratch,
                                   to + pyramid.first[k] * channels);
      });
    }
  }
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error mip_pyramid_bwd(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 4> image,
                           ffi::Buffer<ffi::S32, 2> size, Levels count, ffi::ResultBuffer<kType, 4> grad) {
  using T = ffi::NativeType<kType>;
  int64_t batch = largest_batch(cotangent, image, size), sums = dim(*grad, 0);
  int64_t rows = dim(image, 1), columns = dim(image, 2), channels = dim(image, 3);
  const int32_t one[2] = {1, 1};
  const int64_t total = Pyramid(rows, columns, channels, one, *count).rows;
  if (!has_shape(cotangent, batch, {total, channels}) || !has_batch(image, batch) || !has_shape(size, batch, {2}) ||
      !has_shape(*grad, sums, {rows, columns, channels}) || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  if (sums == 0) return ffi::Error::Success();
  const int64_t items = batch / sums, image_size = rows * columns * channels;
  // Cotangents of the coarser levels, from the coarsest to the finest.
  std::unique_ptr<T[]> coarser(new T[total * channels - image_size]);
  for (int64_t item = 0; item < batch; ++item) {
    const Pyramid pyramid(rows, columns, channels, item_data(size, item), *count);
    const T* from = item_data(cotangent, item);
    for (int64_t k = *count - 1; k >= 0; --k) {
      const MipLevel& level = pyramid.levels[k];
      const T* own = from + pyramid.first[k] * channels;
      T* to = k > 0 ? coarser.get() + pyramid.first[k] * channels - image_size
                    : grad->typed_data() + item / items * image_size;
      const T* above =
          k + 1 < *count ? coarser.get() + pyramid.first[k + 1] * channels - image_size : nullptr;
      const bool is_first = k > 0 || item % items == 0;
      const int64_t length = level.columns * channels;
      for_rows<T>(threads, level.rows, level, [&](int64_t begin, int64_t end, T* scratch) {
        if (is_first) std::fill(to + begin * length, to + end * length, T(0));
        if (above != nullptr) {
          texture_kernels<T>().add_halved(level, own, above, begin, end, scratch, to);
        } else {
          for (int64_t i = begin * length; i < end * length; ++i) to[i] += own[i];
        }
      });
    }
  }
  return ffi::Error::Success();
}

// Operands of uv_and_steps.
template <ffi::DataType kType>
struct UVOperands {
  ffi::Buffer<kType, 3> clip, uv;
  ffi::Buffer<kType, 4> barycentric;
  ffi::Buffer<ffi::S32, 3> faces, uv_faces, face_index;

  int64_t height() const { return dim(face_index, 1); }
  int64_t width() const { return dim(face_index, 2); }
  bool have_shapes(int64_t batch) const {
    return has_shape(clip, batch, {dim(clip, 1), 4}) && has_shape(uv, batch, {dim(uv, 1), 2}) &&
           has_shape(barycentric, batch, {height(), width(), 3}) && has_shape(faces, batch, {dim(faces, 1), 3}) &&
           has_shape(uv_faces, batch, {dim(faces, 1), 3}) && has_batch(face_index, batch);
  }
  auto item_at(int64_t item) const {
    using T = ffi::NativeType<kType>;
    return UVItem<T>{.mesh = {.clip = item_data(clip, item),
                              .faces = item_data(faces, item),
                              .face_index = item_data(face_index, item),
                              .num_vertices = dim(clip, 1),
                              .num_faces = dim(faces, 1),
                              .height = height(),
                              .width = width()},
                     .uv = item_data(uv, item),
                     .barycentric = item_data(barycentric, item),
                     .uv_faces = item_data(uv_faces, item),
                     .num_uv = dim(uv, 1)};
  }
};

template <ffi::DataType kType>
ffi::Error uv_and_steps(Threads threads, ffi::Buffer<kType, 3> clip, ffi::Buffer<kType, 3> uv,
                        ffi::Buffer<kType, 4> barycentric, ffi::Buffer<ffi::S32, 3> faces,
                        ffi::Buffer<ffi::S32, 3> uv_faces, ffi::Buffer<ffi::S32, 3> face_index,
                        ffi::ResultBuffer<kType, 4> coordinates) {
  const UVOperands<kType> operands{clip, uv, barycentric, faces, uv_faces, face_index};
  int64_t batch = dim(*coordinates, 0), height = operands.height(), width = operands.width(), pixels = height * width;
  if (!operands.have_shapes(batch) || !has_shape(*coordinates, batch, {height, width, 6})) return shape_error();
  if (!is_countable(height, width)) return size_error();
  parallel_for_blocks(threads, batch, pixels, [&](int64_t item, int64_t begin, int64_t end) {
    texture_kernels<ffi::NativeType<kType>>().uv_and_steps(operands.item_at(item), begin, end,
                                                           coordinates->typed_data() + 6 * item * pixels);
  });
  return ffi::Error::Success();
}

// The sums of cotangents of clip positions or of texture coordinates, over pixels.
template <ffi::DataType kType, typename Kernel, typename Operand>
ffi::Error sum_over_pixels(Threads threads, Kernel kernel, const ffi::Buffer<kType, 4>& cotangent,
                           const UVOperands<kType>& operands, const Operand& operand,
                           const ffi::Buffer<kType, 3>& grad) {
  int64_t sums = dim(grad, 0), height = operands.height(), width = operands.width(), pixels = height * width;
  int64_t batch = largest_batch(cotangent, operands.clip, operands.uv, operands.barycentric, operands.faces,
                                operands.uv_faces, operands.face_index);
  if (!operands.have_shapes(batch) || !has_shape(cotangent, batch, {height, width, 6}) ||
      !has_shape(grad, sums, {dim(operand, 1), dim(operand, 2)}) || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  sum_in_parts(threads, sums, batch, image_parts(pixels), pixels, dim(operand, 1) * dim(operand, 2), grad.typed_data(),
               [&](int64_t item, int64_t begin, int64_t end, auto* to) {
                 kernel(operands.item_at(item), item_data(cotangent, item), begin, end, to);
               });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error uv_and_steps_bwd_clip_positions(Threads threads, ffi::Buffer<kType, 4> cotangent,
                                           ffi::Buffer<kType, 3> clip, ffi::Buffer<kType, 3> uv,
                                           ffi::Buffer<kType, 4> barycentric, ffi::Buffer<ffi::S32, 3> faces,
                                           ffi::Buffer<ffi::S32, 3> uv_faces, ffi::Buffer<ffi::S32, 3> face_index,
                                           ffi::ResultBuffer<kType, 3> grad) {
  const UVOperands<kType> operands{clip, uv, barycentric, faces, uv_faces, face_index};
  auto* kernel = texture_kernels<ffi::NativeType<kType>>().add_clip_positions;
  return sum_over_pixels(threads, kernel, cotangent, operands, clip, *grad);
}

template <ffi::DataType kType>
ffi::Error uv_and_steps_bwd_uv(Threads threads, ffi::Buffer<kType, 4> cotangent, ffi::Buffer<kType, 3> clip,
                               ffi::Buffer<kType, 3> uv, ffi::Buffer<kType, 4> barycentric,
                               ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S32, 3> uv_faces,
                               ffi::Buffer<ffi::S32, 3> face_index, ffi::ResultBuffer<kType, 3> grad) {
  const UVOperands<kType> operands{clip, uv, barycentric, faces, uv_faces, face_index};
  auto* kernel = texture_kernels<ffi::NativeType<kType>>().add_uv;
  return sum_over_pixels(threads, kernel, cotangent, operands, uv, *grad);
}

template <ffi::DataType kType>
ffi::Error uv_and_steps_bwd_barycentric(Threads threads, ffi::Buffer<kType, 4> cotangent, ffi::Buffer<kType, 3> clip,
                                        ffi::Buffer<kType, 3> uv, ffi::Buffer<kType, 4> barycentric,
                                        ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S32, 3> uv_faces,
                                        ffi::Buffer<ffi::S32, 3> face_index, ffi::ResultBuffer<kType, 4> grad) {
  using T = ffi::NativeType<kType>;
  const UVOperands<kType> operands{clip, uv, barycentric, faces, uv_faces, face_index};
  int64_t batch = largest_batch(cotangent, clip, uv, barycentric, faces, uv_faces, face_index), sums = dim(*grad, 0);
  int64_t height = operands.height(), width = operands.width();
  if (!operands.have_shapes(batch) || !has_shape(cotangent, batch, {height, width, 6}) ||
      !has_shape(*grad, sums, {height, width, 3}) || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  sum_rows(threads, sums, batch, height * width, 3, grad->typed_data(),
           [&](int64_t item, int64_t begin, int64_t end, T* to) {
             texture_kernels<T>().add_barycentric(operands.item_at(item), item_data(cotangent, item), begin, end, to);
           });
  return ffi::Error::Success();
}

// Operands of sample_texels.
template <ffi::DataType kType>
struct TextureOperands {
  ffi::Buffer<kType, 3> texels, coordinates;
  ffi::Buffer<ffi::S32, 2> material;
  ffi::Buffer<ffi::S32, 3> places;
  int64_t levels;
  bool nearest;

  int64_t count() const { return dim(material, 1); }
  int64_t stride() const { return dim(coordinates, 2); }
  bool have_shapes(int64_t batch) const {
    return levels > 0 && has_batch(texels, batch) && has_shape(coordinates, batch, {count(), stride()}) &&
           (stride() == 2 || stride() == 6) && has_batch(material, batch) &&
           has_shape(places, batch, {dim(places, 1), 6}) && dim(places, 1) % levels == 0 && are_in_table();
  }
  // Whether every level lies in the table of texels, so that no texel need be checked.
  bool are_in_table() const {
    const auto* place = reinterpret_cast<const MipPlace*>(places.typed_data());
    for (int64_t k = 0; k < dim(places, 0) * dim(places, 1); ++k, ++place) {
      const int64_t last = place->first + (place->height - int64_t(1)) * place->stride + place->width;
      if (place->first < 0 || place->height < 1 || place->width < 1 || place->stride < place->width ||
          last > dim(texels, 1))
        return false;
    }
    return true;
  }
  auto item_at(int64_t item) const {
    return TextureItem<ffi::NativeType<kType>>{.texels = item_data(texels, item),
                                               .coordinates = item_data(coordinates, item),
                                               .material = item_data(material, item),
                                               .places = reinterpret_cast<const MipPlace*>(item_data(places, item)),
                                               .rows = dim(texels, 1),
                                               .channels = dim(texels, 2),
                                               .stride = stride(),
                                               .images = dim(places, 1) / levels,
                                               .levels = levels,
                                               .nearest = nearest};
  }
};

template <ffi::DataType kType>
ffi::Error sample_texels(Threads threads, ffi::Buffer<kType, 3> texels, ffi::Buffer<kType, 3> coordinates,
                         ffi::Buffer<ffi::S32, 2> material, ffi::Buffer<ffi::S32, 3> places, Levels levels,
                         Nearest nearest, ffi::ResultBuffer<kType, 3> colors) {
  const TextureOperands<kType> operands{texels, coordinates, material, places, *levels, *nearest != 0};
  int64_t batch = dim(*colors, 0), count = operands.count(), channels = dim(texels, 2);
  if (!operands.have_shapes(batch) || !has_shape(*colors, batch, {count, channels})) return shape_error();
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    texture_kernels<ffi::NativeType<kType>>().sample_texels(operands.item_at(item), begin, end,
                                                            colors->typed_data() + item * count * channels);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error sample_texels_bwd_texels(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> texels,
                                    ffi::Buffer<kType, 3> coordinates, ffi::Buffer<ffi::S32, 2> material,
                                    ffi::Buffer<ffi::S32, 3> places, Levels levels, Nearest nearest,
                                    ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  const TextureOperands<kType> operands{texels, coordinates, material, places, *levels, *nearest != 0};
  int64_t batch = largest_batch(cotangent, texels, coordinates, material, places), sums = dim(*grad, 0);
  int64_t count = operands.count(), rows = dim(texels, 1), channels = dim(texels, 2);
  if (!operands.have_shapes(batch) || !has_shape(cotangent, batch, {count, channels}) ||
      !has_shape(*grad, sums, {rows, channels}) || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  // A large table is not split into many parts: adding them up would take longer than it saves.
  int64_t parts = std::min<int64_t>(image_parts(count), rows <= count ? 4 : rows <= 2 * count ? 2 : 1);
  sum_in_parts(threads, sums, batch, parts, count, rows * channels, grad->typed_data(),
               [&](int64_t item, int64_t begin, int64_t end, T* to) {
                 texture_kernels<T>().add_texels(operands.item_at(item), item_data(cotangent, item), begin, end, to);
               });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error sample_texels_bwd_coordinates(Threads threads, ffi::Buffer<kType, 3> cotangent,
                                         ffi::Buffer<kType, 3> texels, ffi::Buffer<kType, 3> coordinates,
                                         ffi::Buffer<ffi::S32, 2> material, ffi::Buffer<ffi::S32, 3> places,
                                         Levels levels, Nearest nearest, ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  const TextureOperands<kType> operands{texels, coordinates, material, places, *levels, *nearest != 0};
  int64_t batch = largest_batch(cotangent, texels, coordinates, material, places), sums = dim(*grad, 0);
  int64_t count = operands.count(), stride = operands.stride();
  if (!operands.have_shapes(batch) || !has_shape(cotangent, batch, {count, dim(texels, 2)}) ||
      !has_shape(*grad, sums, {count, stride}) || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  sum_rows(threads, sums, batch, count, stride, grad->typed_data(),
           [&](int64_t item, int64_t begin, int64_t end, T* to) {
             texture_kernels<T>().add_coordinates(operands.item_at(item), item_data(cotangent, item), begin, end, to);
           });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(mip_pyramid)
JNR_TARGETS(mip_pyramid_bwd)
JNR_TARGETS(uv_and_steps)
JNR_TARGETS(uv_and_steps_bwd_barycentric)
JNR_TARGETS(uv_and_steps_bwd_clip_positions)
JNR_TARGETS(uv_and_steps_bwd_uv)
JNR_TARGETS(sample_texels)
JNR_TARGETS(sample_texels_bwd_coordinates)
JNR_TARGETS(sample_texels_bwd_texels)
