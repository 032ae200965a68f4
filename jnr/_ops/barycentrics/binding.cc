// Custom calls jnr_barycentrics_* and jnr_barycentrics_bwd_*.

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

// Operands that the forward and the backward pass share.
template <ffi::DataType kType>
struct Operands {
  ffi::Buffer<kType, 3> clip;
  ffi::Buffer<ffi::S32, 3> faces, face_index;

  bool have_shapes(int64_t batch) const {
    return has_shape(clip, batch, {dim(clip, 1), 4}) && has_shape(faces, batch, {dim(faces, 1), 3}) &&
           has_batch(face_index, batch);
  }
  int64_t height() const { return dim(face_index, 1); }
  int64_t width() const { return dim(face_index, 2); }

  auto item_at(int64_t item) const {
    return BarycentricsItem<ffi::NativeType<kType>>{.clip = item_data(clip, item),
                                                    .faces = item_data(faces, item),
                                                    .face_index = item_data(face_index, item),
                                                    .num_vertices = dim(clip, 1),
                                                    .num_faces = dim(faces, 1),
                                                    .height = height(),
                                                    .width = width()};
  }
};

template <ffi::DataType kType>
ffi::Error barycentrics(Threads threads, ffi::Buffer<kType, 3> clip, ffi::Buffer<ffi::S32, 3> faces,
                        ffi::Buffer<ffi::S32, 3> face_index, ffi::ResultBuffer<kType, 4> weights) {
  const Operands<kType> operands{clip, faces, face_index};
  int64_t batch = dim(*weights, 0), pixels = operands.height() * operands.width();
  if (!operands.have_shapes(batch) || !has_shape(*weights, batch, {operands.height(), operands.width(), 3}))
    return shape_error();
  if (!is_countable(operands.height(), operands.width())) return size_error();
  parallel_for_blocks(threads, batch, pixels, [&](int64_t item, int64_t begin, int64_t end) {
    barycentrics_kernels<ffi::NativeType<kType>>().barycentrics(operands.item_at(item), begin, end,
                                                                weights->typed_data() + item * pixels * 3);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error barycentrics_bwd(Threads threads, ffi::Buffer<kType, 4> cotangent, ffi::Buffer<kType, 3> clip,
                            ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S32, 3> face_index,
                            ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  const Operands<kType> operands{clip, faces, face_index};
  int64_t batch = largest_batch(cotangent, clip, faces, face_index), sums = dim(*grad, 0);
  int64_t height = operands.height(), width = operands.width();
  if (!divides(sums, batch) || !operands.have_shapes(batch) || !has_shape(cotangent, batch, {height, width, 3}) ||
      !has_shape(*grad, sums, {dim(clip, 1), 4}))
    return shape_error();
  if (!is_countable(height, width)) return size_error();
  int64_t pixels = height * width;
  sum_in_parts(threads, sums, batch, image_parts(pixels), pixels, dim(clip, 1) * 4, grad->typed_data(),
               [&](int64_t item, int64_t begin, int64_t end, T* to) {
                 barycentrics_kernels<T>().barycentrics_bwd(operands.item_at(item), item_data(cotangent, item), begin,
                                                            end, to);
               });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(barycentrics)
JNR_TARGETS(barycentrics_bwd)
