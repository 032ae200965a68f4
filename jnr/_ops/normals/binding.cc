// Custom calls jnr_face_turns_*, jnr_face_normals_*, jnr_indexed_vertices_int32, jnr_normal_sums_*, jnr_unit_vectors_*, and jnr_*_bwd_* of each.

#include <algorithm>
#include <vector>

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

// A sum over faces or pixels is split where adding up the parts, one number per vertex each, takes little beside it.
int64_t normal_parts(int64_t count, int64_t num_vertices) {
  return std::clamp<int64_t>(2 * count / std::max(num_vertices, 8 * kBlock), 1, 4);
}

template <typename T, typename Vertices, typename Faces>
WorldMesh<T> mesh_of(const Vertices& vertices, const Faces& faces, int64_t item, T scale) {
  return {item_data(vertices, item), item_data(faces, item), dim(vertices, 1), dim(faces, 1), scale};
}

// A kernel with `channels` numbers per indexed face, of vertices with `coordinates` numbers each.
template <ffi::DataType kType, typename Kernel, typename Result>
ffi::Error map_faces(Threads threads, Kernel kernel, const ffi::Buffer<kType, 3>& vertices, int64_t coordinates,
                     const ffi::Buffer<ffi::S32, 3>& faces, const ffi::Buffer<ffi::S32, 2>& index,
                     const Result& result, int64_t channels) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(result, 0), count = dim(result, 1);
  if (!has_shape(vertices, batch, {dim(vertices, 1), coordinates}) || !has_shape(faces, batch, {dim(faces, 1), 3}) ||
      !has_shape(index, batch, {count}))
    return shape_error();
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    kernel(mesh_of<T>(vertices, faces, item, T(1)), item_data(index, item), begin, end,
           result.typed_data() + channels * item * count);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error face_normals(Threads threads, ffi::Buffer<kType, 3> vertices, ffi::Buffer<ffi::S32, 3> faces,
                        ffi::Buffer<ffi::S32, 2> index, ffi::ResultBuffer<kType, 3> normals) {
  if (dim(*normals, 2) != 3) return shape_error();
  auto* kernel = normals_kernels<ffi::NativeType<kType>>().face_normals;
  return map_faces(threads, kernel, vertices, 3, faces, index, *normals, 3);
}

template <ffi::DataType kType>
ffi::Error face_turns(Threads threads, ffi::Buffer<kType, 3> clip_positions, ffi::Buffer<ffi::S32, 3> faces,
                      ffi::Buffer<ffi::S32, 2> index, ffi::ResultBuffer<kType, 2> turns) {
  auto* kernel = normals_kernels<ffi::NativeType<kType>>().face_turns;
  return map_faces(threads, kernel, clip_positions, 4, faces, index, *turns, 1);
}

template <ffi::DataType kType>
ffi::Error face_normals_bwd(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> vertices,
                            ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S32, 2> index,
                            ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  int64_t sums = dim(*grad, 0), num_vertices = dim(vertices, 1), count = dim(index, 1);
  int64_t batch = largest_batch(cotangent, vertices, faces, index);
  if (!has_shape(cotangent, batch, {count, 3}) || !has_shape(vertices, batch, {num_vertices, 3}) ||
      !has_shape(faces, batch, {dim(faces, 1), 3}) || !has_shape(index, batch, {count}) ||
      dim(*grad, 1) != num_vertices || dim(*grad, 2) != 3 || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  sum_in_parts<T>(threads, sums, batch, normal_parts(count, num_vertices), count, 3 * num_vertices, grad->typed_data(),
                  [&](int64_t item, int64_t begin, int64_t end, T* to) {
                    normals_kernels<T>().add_face_normals(mesh_of<T>(vertices, faces, item, T(1)),
                                                          item_data(index, item), item_data(cotangent, item), begin,
                                                          end, to);
                  });
  return ffi::Error::Success();
}

// Per item of a batch of vertices, the scale of its extent.
template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
std::vector<T> extent_scales(Threads threads, const ffi::Buffer<kType, 3>& vertices, int64_t batch) {
  std::vector<T> scales(batch);
  parallel_for(threads, dim(vertices, 0), [&](int64_t item) {
    scales[item] = normals_kernels<T>().extent_scale(item_data(vertices, item), dim(vertices, 1));
  });
  if (dim(vertices, 0) == 1) std::fill(scales.begin(), scales.end(), scales[0]);
  return scales;
}

template <ffi::DataType kType>
ffi::Error normal_sums(Threads threads, ffi::Buffer<kType, 3> vertices, ffi::Buffer<ffi::S32, 3> faces,
                       ffi::Buffer<ffi::S8, 2> wanted, ffi::ResultBuffer<kType, 3> result) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*result, 0), num_vertices = dim(vertices, 1), num_faces = dim(faces, 1);
  if (!has_shape(vertices, batch, {num_vertices, 3}) || !has_shape(faces, batch, {num_faces, 3}) ||
      !has_shape(wanted, batch, {num_vertices}) || dim(*result, 1) != num_vertices || dim(*result, 2) != 4)
    return shape_error();
  if (batch == 0) return ffi::Error::Success();
  std::vector<T> scales = extent_scales<kType>(threads, vertices, batch);
  int64_t parts = normal_parts(num_faces, num_vertices);
  sum_in_parts<T>(threads, batch, batch, parts, num_faces, 4 * num_vertices, result->typed_data(),
                  [&](int64_t item, int64_t begin, int64_t end, T* to) {
                    normals_kernels<T>().normal_sums(mesh_of<T>(vertices, faces, item, scales[item]),
                                                     item_data(wanted, item), begin, end, to);
                  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error normal_sums_bwd(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> vertices,
                           ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S8, 2> wanted,
                           ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  int64_t sums = dim(*grad, 0), num_vertices = dim(vertices, 1), num_faces = dim(faces, 1);
  int64_t batch = largest_batch(cotangent, vertices, faces, wanted);
  if (!has_shape(cotangent, batch, {num_vertices, 4}) || !has_shape(vertices, batch, {num_vertices, 3}) ||
      !has_shape(faces, batch, {num_faces, 3}) || !has_shape(wanted, batch, {num_vertices}) ||
      dim(*grad, 1) != num_vertices || dim(*grad, 2) != 3 || !divides(std::max<int64_t>(sums, 1), batch))
    return shape_error();
  if (sums == 0) return ffi::Error::Success();
  std::vector<T> scales = extent_scales<kType>(threads, vertices, batch);
  int64_t parts = normal_parts(num_faces, num_vertices);
  sum_in_parts<T>(threads, sums, batch, parts, num_faces, 3 * num_vertices, grad->typed_data(),
                  [&](int64_t item, int64_t begin, int64_t end, T* to) {
                    normals_kernels<T>().add_normal_sums(mesh_of<T>(vertices, faces, item, scales[item]),
                                                         item_data(wanted, item), item_data(cotangent, item), begin,
                                                         end, to);
                  });
  return ffi::Error::Success();
}

// Marks the corners of the faces that an index names.
template <ffi::DataType>
ffi::Error indexed_vertices(Threads, ffi::Buffer<ffi::S32, 3> faces, ffi::Buffer<ffi::S32, 2> index,
                            ffi::ResultBuffer<ffi::S8, 2> marks) {
  int64_t batch = dim(*marks, 0), num_vertices = dim(*marks, 1), num_faces = dim(faces, 1), count = dim(index, 1);
  if (!has_shape(faces, batch, {num_faces, 3}) || !has_batch(index, batch)) return shape_error();
  for (int64_t item = 0; item < batch; ++item) {
    int8_t* to = marks->typed_data() + item * num_vertices;
    std::fill(to, to + num_vertices, int8_t(0));
    const int32_t *of = item_data(faces, item), *names = item_data(index, item);
    int32_t last = -1;
    for (int64_t i = 0; i < count; ++i) {
      if (names[i] == last || names[i] < 0 || names[i] >= num_faces) continue;
      last = names[i];
      for (int k = 0; k < 3; ++k) {
        int32_t v = of[3 * int64_t(last) + k];
        if (v >= 0 && v < num_vertices) to[v] = 1;
      }
    }
  }
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error unit_vectors(Threads threads, ffi::Buffer<kType, 3> sums, ffi::ResultBuffer<kType, 3> vectors) {
  int64_t batch = dim(*vectors, 0), count = dim(*vectors, 1);
  if (!has_shape(sums, batch, {count, 4}) || dim(*vectors, 2) != 3) return shape_error();
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    normals_kernels<ffi::NativeType<kType>>().unit_vectors(item_data(sums, item), begin, end,
                                                           vectors->typed_data() + 3 * item * count);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error unit_vectors_bwd(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> sums,
                            ffi::ResultBuffer<kType, 3> grad) {
  using T = ffi::NativeType<kType>;
  int64_t results = dim(*grad, 0), count = dim(sums, 1), batch = largest_batch(cotangent, sums);
  if (!has_shape(cotangent, batch, {count, 3}) || !has_shape(sums, batch, {count, 4}) || dim(*grad, 1) != count ||
      dim(*grad, 2) != 4 || !divides(std::max<int64_t>(results, 1), batch))
    return shape_error();
  sum_rows(threads, results, batch, count, 4, grad->typed_data(),
           [&](int64_t item, int64_t begin, int64_t end, T* to) {
             normals_kernels<T>().add_unit_vectors(item_data(cotangent, item), item_data(sums, item), begin, end, to);
           });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(face_normals)
JNR_TARGETS(face_normals_bwd)
JNR_TARGETS(face_turns)
JNR_TARGET(indexed_vertices, int32, xla::ffi::S32)
JNR_TARGETS(normal_sums)
JNR_TARGETS(normal_sums_bwd)
JNR_TARGETS(unit_vectors)
JNR_TARGETS(unit_vectors_bwd)
