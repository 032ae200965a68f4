#pragma once

#include <cstdint>

#include "../cpp/variants.h"

namespace jnr {

// Faces of a mesh in world space. Coordinates are multiplied by `scale`.
template <typename T>
struct WorldMesh {
  const T* vertices;
  const int32_t* faces;
  int64_t num_vertices, num_faces;
  T scale;
};

template <typename T>
struct NormalsKernels {
  // Unit normals (count, 3) of faces index[begin, end), and their cotangents added to `grad` (vertices, 3).
  void (*face_normals)(const WorldMesh<T>& mesh, const int32_t* index, int64_t begin, int64_t end, T* normals);
  void (*add_face_normals)(const WorldMesh<T>& mesh, const int32_t* index, const T* cotangent, int64_t begin,
                           int64_t end, T* grad);
  // -1 where faces index[begin, end) are clockwise in clip space's x, y and w, else 1. `mesh` has clip positions.
  void (*face_turns)(const WorldMesh<T>& mesh, const int32_t* index, int64_t begin, int64_t end, T* turns);
  // A power of two that brings the mesh's extent near 1.
  T (*extent_scale)(const T* vertices, int64_t num_vertices);
  // Adds the normals of faces [begin, end), of twice their areas, and their sizes to `sums` (vertices, 4); and the
  // cotangent of these sums to `grad`. Faces without a vertex that is wanted add nothing.
  void (*normal_sums)(const WorldMesh<T>& mesh, const int8_t* wanted, int64_t begin, int64_t end, T* sums);
  void (*add_normal_sums)(const WorldMesh<T>& mesh, const int8_t* wanted, const T* cotangent, int64_t begin,
                          int64_t end, T* grad);
  // Unit vectors (count, 3) of sums [begin, end) of (count, 4), and the cotangent of the sums added to `grad`.
  void (*unit_vectors)(const T* sums, int64_t begin, int64_t end, T* vectors);
  void (*add_unit_vectors)(const T* cotangent, const T* sums, int64_t begin, int64_t end, T* grad);
};

JNR_DECLARE_KERNELS(NormalsKernels, normals_kernels)

}  // namespace jnr
