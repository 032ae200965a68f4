// Custom calls jnr_boundary_crossings_* and jnr_crossing_motion_bwd_*.

#include <algorithm>
#include <memory>
#include <vector>

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

template <ffi::DataType kType>
ffi::Error boundary_crossings(Threads threads, ffi::Buffer<kType, 3> clip_positions, ffi::Buffer<ffi::S32, 3> faces,
                              ffi::Buffer<ffi::S32, 3> face_index, ffi::Buffer<ffi::PRED, 4> active,
                              ffi::ResultBuffer<ffi::S32, 5> crossings) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*crossings, 0), height = dim(*crossings, 2), width = dim(*crossings, 3);
  int64_t num_vertices = dim(clip_positions, 1), num_faces = dim(faces, 1), pixels = height * width;
  if (!has_shape(clip_positions, batch, {num_vertices, 4}) || !has_shape(faces, batch, {num_faces, 3}) ||
      !has_shape(face_index, batch, {height, width}) || !has_shape(active, batch, {2, height, width}) ||
      dim(*crossings, 1) != 2 || dim(*crossings, 4) != 2)
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  if (batch == 0 || pixels == 0) return ffi::Error::Success();
  int64_t row_words = (width + 63) / 64, column_words = (height + 63) / 64;
  int64_t words = height * row_words + width * column_words;
  int code_shift = 0;
  while (std::max(height, width) >> code_shift > INT16_MAX) ++code_shift;
  TileLevel levels[kTileLevels + 1];
  int64_t tiles = 0;
  for (int level = 0; level <= kTileLevels; ++level) {
    int64_t side = int64_t(2) << (code_shift + level), columns = width / side + 2;
    levels[level] = {int32_t(tiles), int32_t(columns)};
    tiles += (height / side + 2) * columns;
  }
  int64_t sets = dim(clip_positions, 0);
  std::unique_ptr<Point<T>[]> points(new Point<T>[sets * num_vertices]);
  std::unique_ptr<uint64_t[]> bits(new uint64_t[batch * words]);
  std::unique_ptr<int32_t[]> codes(new int32_t[sets * num_vertices]);
  std::unique_ptr<uint8_t[]> has_gap(new uint8_t[batch * 2 * tiles]);
  std::vector<std::unique_ptr<Gap<T>[]>> gaps(batch);
  auto item_at = [&](int64_t item) {
    return CrossingsItem<T>{.mesh = {.clip = item_data(clip_positions, item),
                                     .faces = item_data(faces, item),
                                     .num_vertices = num_vertices,
                                     .num_faces = num_faces,
                                     .height = height,
                                     .width = width},
                            .points = points.get() + (sets == 1 ? 0 : item * num_vertices),
                            .face_index = item_data(face_index, item),
                            .active = item_data(active, item),
                            .row_bits = bits.get() + item * words,
                            .column_bits = bits.get() + item * words + height * row_words,
                            .row_words = row_words,
                            .column_words = column_words,
                            .codes = codes.get() + (sets == 1 ? 0 : item * num_vertices),
                            .code_shift = code_shift,
                            .tiles = has_gap.get() + 2 * item * tiles,
                            .near = has_gap.get() + (2 * item + 1) * tiles,
                            .levels = levels,
                            .crossings = crossings->typed_data() + item * pixels * 4,
                            .gaps = gaps[item].get()};
  };
  const auto& kernels = boundary_kernels<T>();
  int64_t blocks = column_words;
  std::vector<int64_t> number(batch * (blocks + 1), 0);
  auto rows_of = [&](int64_t block) { return std::pair(block * kRowBlock, std::min(height, (block + 1) * kRowBlock)); };
  parallel_for(threads, batch * blocks, [&](int64_t task) {
    int64_t item = task / blocks, block = task % blocks;
    auto [first, end] = rows_of(block);
    number[item * (blocks + 1) + block + 1] = kernels.mark_gaps(item_at(item), first, end);
  });
  for (int64_t item = 0; item < batch; ++item) {
    int64_t* ends = &number[item * (blocks + 1)];
    for (int64_t block = 0; block < blocks; ++block) ends[block + 1] += ends[block];
    gaps[item].reset(new Gap<T>[ends[blocks]]);
  }
  parallel_for(threads, batch * blocks, [&](int64_t task) {
    int64_t item = task / blocks, block = task % blocks;
    auto [first, end] = rows_of(block);
    kernels.find_own(item_at(item), first, end, number[item * (blocks + 1) + block]);
  });
  parallel_for_blocks(threads, sets, num_vertices, [&](int64_t set, int64_t begin, int64_t end) {
    kernels.place_points(item_at(set), begin, end);
  });
  parallel_for(threads, batch, [&](int64_t item) { kernels.mark_tiles(item_at(item)); });
  parallel_for_blocks(threads, batch, num_faces, [&](int64_t item, int64_t begin, int64_t end) {
    if (num_vertices > 0 && number[item * (blocks + 1) + blocks] > 0) kernels.find_edges(item_at(item), begin, end);
  });
  parallel_for(threads, batch * blocks, [&](int64_t task) {
    int64_t item = task / blocks, first = item * (blocks + 1) + task % blocks;
    kernels.choose(item_at(item), number[first], number[first + 1]);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error crossing_motion_bwd(Threads threads, ffi::Buffer<kType, 4> cotangent, ffi::Buffer<ffi::S32, 5> crossings,
                               ffi::Buffer<kType, 3> clip_positions, ffi::Buffer<ffi::S32, 3> faces,
                               ffi::Buffer<ffi::S32, 3> face_index, ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  int64_t sums = dim(*grad, 0), num_vertices = dim(clip_positions, 1), num_faces = dim(faces, 1);
  int64_t batch = largest_batch(cotangent, crossings, clip_positions, faces, face_index);
  int64_t height = dim(face_index, 1), width = dim(face_index, 2), pixels = height * width;
  if (!has_shape(cotangent, batch, {2, height, width}) || !has_shape(crossings, batch, {2, height, width, 2}) ||
      !has_shape(clip_positions, batch, {num_vertices, 4}) || !has_shape(faces, batch, {num_faces, 3}) ||
      !has_shape(face_index, batch, {height, width}) || dim(*grad, 1) != num_vertices || dim(*grad, 2) != 4 ||
      !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  sum_in_parts<T>(threads, sums, batch, image_parts(pixels), 2 * pixels, 4 * num_vertices, grad->typed_data(),
                  [&](int64_t item, int64_t begin, int64_t end, T* to) {
                    MotionItem<T> one{.mesh = {.clip = item_data(clip_positions, item),
                                               .faces = item_data(faces, item),
                                               .num_vertices = num_vertices,
                                               .num_faces = num_faces,
                                               .height = height,
                                               .width = width},
                                      .force = item_data(cotangent, item),
                                      .crossings = item_data(crossings, item),
                                      .face_index = item_data(face_index, item)};
                    boundary_kernels<T>().add_motion(one, begin, end, to);
                  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(boundary_crossings)
JNR_TARGETS(crossing_motion_bwd)
