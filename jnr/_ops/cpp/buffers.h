// Operands of handlers: shapes, items of a batch, and sums that are computed in parts.
//
// The leading axis of every operand is the batch, of size 1 where all items share the operand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace jnr {

namespace ffi = xla::ffi;

template <typename Buffer>
int64_t dim(const Buffer& buffer, size_t axis) {
  return buffer.dimensions()[axis];
}

template <typename Buffer>
auto* item_data(const Buffer& buffer, int64_t item) {
  auto dims = buffer.dimensions();
  int64_t size = 1;
  for (size_t axis = 1; axis < dims.size(); ++axis) size *= dims[axis];
  return buffer.typed_data() + (dims[0] == 1 ? 0 : item * size);
}

template <typename Buffer>
bool has_batch(const Buffer& buffer, int64_t batch) {
  return dim(buffer, 0) == 1 || dim(buffer, 0) == batch;
}

// Whether a buffer has a batch axis that fits and this shape behind it.
template <typename Buffer>
bool has_shape(const Buffer& buffer, int64_t batch, std::initializer_list<int64_t> shape) {
  auto dims = buffer.dimensions();
  return has_batch(buffer, batch) && std::equal(shape.begin(), shape.end(), dims.begin() + 1, dims.end());
}

// Whether float32 can count the rows and columns of an image, as the kernels do.
inline bool is_countable(int64_t height, int64_t width) { return std::max(height, width) <= int64_t(1) << 24; }

template <typename... Buffers>
int64_t largest_batch(const Buffers&... buffers) {
  return std::max({dim(buffers, 0)...});
}

// Whether each of `sums` sums has equally many items of the batch.
inline bool divides(int64_t sums, int64_t batch) { return sums > 0 && batch % sums == 0; }

inline ffi::Error shape_error() { return ffi::Error::InvalidArgument("jnr: shapes of the operands do not match"); }

inline ffi::Error size_error() {
  return ffi::Error::InvalidArgument("jnr: an image must have at most 2**24 rows and columns");
}

// Into how many parts the backward pass over an image is split. A function of the image's size alone, so that a mesh
// has the same gradient to the bit alone, in a batch and with padding.
inline int64_t image_parts(int64_t pixels) { return pixels >= 512 * 512 ? 4 : pixels >= 192 * 192 ? 2 : 1; }

// Computes `sums` sums of `size` numbers each, every one over as many consecutive items of the batch. The `count`
// elements of each item are divided into parts, which are added in order: add(item, begin, end, to) adds those of
// [begin, end) to `to`.
template <typename T, typename Add>
void sum_in_parts(Threads threads, int64_t sums, int64_t batch, int64_t parts, int64_t count, int64_t size, T* total,
                  Add add) {
  if (sums == 0) return;
  int64_t items = batch / sums;
  std::vector<std::unique_ptr<T[]>> others(size_t(sums * (parts - 1)));
  parallel_for(threads, sums * parts, [&](int64_t task) {
    int64_t sum = task / parts, part = task % parts;
    T* to = total + sum * size;
    if (part == 0) {
      std::fill(to, to + size, T(0));
    } else {
      auto& other = others[sum * (parts - 1) + part - 1];
      other.reset(new T[size]());
      to = other.get();
    }
    for (int64_t item = sum * items; item < (sum + 1) * items; ++item)
      add(item, count * part / parts, count * (part + 1) / parts, to);
  });
  if (parts == 1) return;
  parallel_for_blocks(threads, sums, size, [&](int64_t sum, int64_t begin, int64_t end) {
    T* to = total + sum * size;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t k = begin; k < end; ++k) to[k] += others[sum * (parts - 1) + part - 1][k];
  });
}

// Computes `sums` arrays of `count` rows of `columns` numbers, the cotangents of an operand whose rows the items of a
// batch own or share: add(item, begin, end, to) adds an item's rows [begin, end) to `to`, the whole array.
template <typename T, typename Add>
void sum_rows(Threads threads, int64_t sums, int64_t batch, int64_t count, int64_t columns, T* total, Add add) {
  if (sums == 0) return;
  int64_t items = batch / sums;
  parallel_for_blocks(threads, sums, count, [&](int64_t sum, int64_t begin, int64_t end) {
    T* to = total + sum * count * columns;
    std::fill(to + begin * columns, to + end * columns, T(0));
    for (int64_t item = sum * items; item < (sum + 1) * items; ++item) add(item, begin, end, to);
  });
}

}  // namespace jnr
