// Custom calls jnr_rasterize_*.

#include <algorithm>
#include <memory>

#include "../cpp/buffers.h"
#include "../cpp/placement.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

constexpr char kCull[] = "cull";

template <ffi::DataType kType>
ffi::Error rasterize(Threads threads, ffi::Buffer<kType, 3> clip_positions, ffi::Buffer<ffi::S32, 3> faces,
                     ffi::Attr<int64_t, kCull> cull, ffi::ResultBuffer<ffi::S32, 3> face_index) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*face_index, 0), height = dim(*face_index, 1), width = dim(*face_index, 2);
  int64_t num_vertices = dim(clip_positions, 1), num_faces = dim(faces, 1);
  if (!has_shape(clip_positions, batch, {num_vertices, 4}) || !has_shape(faces, batch, {num_faces, 3}))
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  if (batch == 0) return ffi::Error::Success();
  const UsedSizes used = find_used_sizes(threads, faces, batch, num_vertices);
  auto placed = to_pixel_space<T>(threads, clip_positions, used, height, width, true);
  // Bands of whole tiles. More bands than threads, since some have more faces, and at most 16 over all items together.
  int64_t tile_rows = (height + kTile - 1) / kTile, bands = std::clamp<int64_t>(16 / batch, 1, tile_rows);
  int64_t band_rows = (tile_rows + bands - 1) / bands * kTile;
  bands = (height + band_rows - 1) / band_rows;
  auto item_at = [&](int64_t item) {
    return RasterizeItem<T>{.vertices = placed.vertices.get() + placed.offset(item),
                            .points = placed.points.get() + placed.offset(item),
                            .faces = item_data(faces, item),
                            .num_vertices = used.vertices[item],
                            .num_faces = used.faces[item],
                            .height = height,
                            .width = width,
                            .cull = *cull,
                            .band_rows = band_rows,
                            .face_index = face_index->typed_data() + item * height * width};
  };
  int64_t padded_faces = (num_faces + kFaceGroup - 1) / kFaceGroup * kFaceGroup;
  std::unique_ptr<uint8_t[]> first(new uint8_t[batch * padded_faces]), last(new uint8_t[batch * padded_faces]);
  auto bands_of = [&](int64_t item) {
    return FaceBands{first.get() + item * padded_faces, last.get() + item * padded_faces};
  };
  parallel_for_blocks(threads, batch, padded_faces, [&](int64_t item, int64_t begin, int64_t end) {
    int64_t end_used = std::clamp(used.faces[item], begin, end);
    FaceBands face_bands = bands_of(item);
    rasterize_kernels<T>().find_bands(item_at(item), begin, end_used, face_bands);
    std::fill(face_bands.first + end_used, face_bands.first + end, uint8_t(255));
    std::fill(face_bands.last + end_used, face_bands.last + end, uint8_t(0));
  });
  parallel_for(threads, batch * bands, [&](int64_t task) {
    int64_t item = task / bands, pixels = band_rows * padded_length(width);
    std::unique_ptr<float[]> depth(new float[pixels]);
    std::unique_ptr<int32_t[]> index(new int32_t[pixels]);
    rasterize_kernels<T>().rasterize_band(item_at(item), task % bands, bands_of(item), {depth.get(), index.get()});
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(rasterize)
