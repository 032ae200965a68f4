// Rows of numbers as columns, so that kLanes rows are a vector; and vectors of three coordinates of them.
//
// Everything here has internal linkage; variants.h says why.
#pragma once

#include "vec3.h"

namespace jnr {
namespace {

// Up to kChunk consecutive rows.
constexpr int64_t kChunk = 128;

template <typename T, int64_t kColumns>
struct Columns {
  alignas(64) T values[kColumns][kChunk];

  Vector<T> operator()(int64_t column, int64_t i) const { return load<Vector<T>>(values[column] + i); }
  Vec3<Vector<T>> three(int64_t column, int64_t i) const {
    return {(*this)(column, i), (*this)(column + 1, i), (*this)(column + 2, i)};
  }
  void set(int64_t column, int64_t i, const Vector<T>& value) { store(values[column] + i, value); }
  void set_three(int64_t column, int64_t i, const Vec3<Vector<T>>& value) {
    set(column, i, value.x), set(column + 1, i, value.y), set(column + 2, i, value.z);
  }

  // From rows of `stride` numbers, of which `first` is the first column; to such rows; and added to them. Behind the
  // last row that is read there are zeros.
  void read(const T* rows, int64_t stride, int64_t first, int64_t count) {
    if (stride == kColumns && count == kChunk) return read_rows(rows, kColumns, kChunk);
    for (int64_t c = 0; c < kColumns; ++c)
      for (int64_t i = count; i < kChunk; ++i) values[c][i] = 0;
    read_rows(rows + first, stride, count);
  }
  void write_rows(T* rows, int64_t stride, int64_t first, int64_t count) const {
    if (stride == kColumns && count == kChunk) return set_rows(rows, kColumns, kChunk);
    set_rows(rows + first, stride, count);
  }
  void add_to_rows(T* rows, int64_t stride, int64_t first, int64_t count) const {
    if (stride == kColumns && count == kChunk) return add_rows(rows, kColumns, kChunk);
    add_rows(rows + first, stride, count);
  }

 private:
  inline __attribute__((always_inline)) void read_rows(const T* rows, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < kColumns; ++c) values[c][i] = rows[stride * i + c];
  }
  inline __attribute__((always_inline)) void set_rows(T* rows, int64_t stride, int64_t count) const {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < kColumns; ++c) rows[stride * i + c] = values[c][i];
  }
  inline __attribute__((always_inline)) void add_rows(T* rows, int64_t stride, int64_t count) const {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < kColumns; ++c) rows[stride * i + c] += values[c][i];
  }
};

// Calls kernel(first, count) for chunks of rows [begin, end).
template <typename Kernel>
inline void for_chunks(int64_t begin, int64_t end, Kernel kernel) {
  for (int64_t first = begin; first < end; first += kChunk) kernel(first, minimum(kChunk, end - first));
}

template <typename T>
inline Vec3<Vector<T>> splat3(const T* from) {
  return {splat<Vector<T>>(from[0]), splat<Vector<T>>(from[1]), splat<Vector<T>>(from[2])};
}

// Sums of vectors with their sizes, normalized as the op unit_vectors does, and the factors before the division.
template <typename T>
inline Normalized<Vector<T>> normalized(const Vec3<Vector<T>>& vector, const Vector<T>& sizes) {
  typedef Vector<T> V;
  const V zero{}, size = largest(vector), scale = power_of_two_scales<T>(size);
  const Vec3<V> near_one = vector * scale;
  const V squared = dot(near_one, near_one);
  const Mask<T> valid = (size > 16 * kEpsilon<T> * sizes) & (squared > zero) & (squared - squared == zero);
  V length;
  for (int64_t i = 0; i < kLanes; ++i) length[i] = sqrt(squared[i]);
  return {{{select(valid, near_one.x / length, zero), select(valid, near_one.y / length, zero),
            select(valid, near_one.z / length, zero)},
           select(valid, 1 / length, zero)},
          scale};
}

}  // namespace
}  // namespace jnr
