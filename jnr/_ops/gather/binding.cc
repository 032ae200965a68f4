// Custom calls jnr_gather_*, jnr_scatter_add_*, jnr_weighted_gather_*, jnr_weighted_scatter_add_* and jnr_row_dot_*.

#include <algorithm>

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

template <ffi::DataType kType>
ffi::Error gather(Threads threads, ffi::Buffer<kType, 3> table, ffi::Buffer<ffi::S32, 2> index,
                  ffi::ResultBuffer<kType, 3> values) {
  int64_t batch = dim(*values, 0), count = dim(*values, 1), channels = dim(*values, 2), rows = dim(table, 1);
  if (!has_shape(table, batch, {rows, channels}) || !has_shape(index, batch, {count})) return shape_error();
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    gather_kernels<ffi::NativeType<kType>>().gather(item_data(table, item), rows, channels, item_data(index, item),
                                                    begin, end, values->typed_data() + item * count * channels);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error scatter_add(Threads threads, ffi::Buffer<kType, 3> values, ffi::Buffer<ffi::S32, 2> index,
                       ffi::ResultBuffer<kType, 3> table) {
  int64_t sums = dim(*table, 0), rows = dim(*table, 1), channels = dim(*table, 2), count = dim(values, 1);
  int64_t batch = largest_batch(values, index);
  if (!divides(sums, batch) || !has_shape(values, batch, {count, channels}) || !has_shape(index, batch, {count}))
    return shape_error();
  // A task owns some of the rows and adds their values in order, so the number of parts changes no bit.
  int64_t parts = std::clamp<int64_t>(count * channels / (4 * kBlock), 1, 4), items = batch / sums;
  parallel_for(threads, sums * parts, [&](int64_t task) {
    int64_t sum = task / parts, begin = rows * (task % parts) / parts, end = rows * (task % parts + 1) / parts;
    auto* to = table->typed_data() + sum * rows * channels;
    std::fill(to + begin * channels, to + end * channels, 0);
    for (int64_t item = sum * items; item < (sum + 1) * items; ++item)
      gather_kernels<ffi::NativeType<kType>>().scatter_add(item_data(values, item), item_data(index, item), count,
                                                           channels, begin, end, to);
  });
  return ffi::Error::Success();
}

// Fills in the sizes of a weighted op, and returns whether shapes fit behind the batch axis. Each of values (batch,
// count, channels), weights (batch, count, terms * group_size) and table (batch, groups * group_size, channels) is an
// operand or the result.
template <ffi::DataType kType>
bool find_row_groups(const ffi::Buffer<kType, 3>& values, const ffi::Buffer<kType, 3>& weights,
                     const ffi::Buffer<kType, 3>& table, const ffi::Buffer<ffi::S32, 3>& index, RowGroups* groups) {
  int64_t count = dim(values, 1), channels = dim(values, 2), terms = dim(index, 2), rows = dim(table, 1);
  int64_t group_size = terms > 0 ? dim(weights, 2) / terms : 1;
  if (group_size == 0) return false;
  *groups = {nullptr, rows / group_size, terms, group_size, channels};
  return dim(weights, 1) == count && dim(weights, 2) == terms * group_size && dim(index, 1) == count &&
         rows % group_size == 0 && dim(table, 2) == channels;
}

// A weighted kernel with one result per value: weighted_gather and row_dot.
template <ffi::DataType kType, typename Kernel>
ffi::Error map_values(Threads threads, Kernel kernel, RowGroups groups, const ffi::Buffer<kType, 3>& a,
                      const ffi::Buffer<kType, 3>& b, const ffi::Buffer<ffi::S32, 3>& index,
                      const ffi::Buffer<kType, 3>& result) {
  int64_t batch = dim(result, 0), count = dim(result, 1), size = count * dim(result, 2);
  if (!has_batch(a, batch) || !has_batch(b, batch) || !has_batch(index, batch)) return shape_error();
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    RowGroups own = groups;
    own.index = item_data(index, item);
    kernel(own, item_data(a, item), item_data(b, item), begin, end, result.typed_data() + item * size);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error weighted_gather(Threads threads, ffi::Buffer<kType, 3> table, ffi::Buffer<kType, 3> weights,
                           ffi::Buffer<ffi::S32, 3> index, ffi::ResultBuffer<kType, 3> values) {
  RowGroups groups;
  if (!find_row_groups(*values, weights, table, index, &groups)) return shape_error();
  auto* kernel = gather_kernels<ffi::NativeType<kType>>().weighted_gather;
  return map_values(threads, kernel, groups, table, weights, index, *values);
}

template <ffi::DataType kType>
ffi::Error row_dot(Threads threads, ffi::Buffer<kType, 3> values, ffi::Buffer<kType, 3> table,
                   ffi::Buffer<ffi::S32, 3> index, ffi::ResultBuffer<kType, 3> weights) {
  RowGroups groups;
  if (!find_row_groups(values, *weights, table, index, &groups)) return shape_error();
  auto* kernel = gather_kernels<ffi::NativeType<kType>>().row_dot;
  return map_values(threads, kernel, groups, values, table, index, *weights);
}

template <ffi::DataType kType>
ffi::Error weighted_scatter_add(Threads threads, ffi::Buffer<kType, 3> values, ffi::Buffer<kType, 3> weights,
                                ffi::Buffer<ffi::S32, 3> index, ffi::ResultBuffer<kType, 3> table) {
  using T = ffi::NativeType<kType>;
  RowGroups groups;
  int64_t sums = dim(*table, 0), rows = dim(*table, 1), count = dim(values, 1);
  int64_t batch = largest_batch(values, weights, index);
  if (!find_row_groups(values, weights, *table, index, &groups) || !divides(sums, batch) ||
      !has_batch(values, batch) || !has_batch(weights, batch) || !has_batch(index, batch))
    return shape_error();
  // A table with more rows than values is not split: adding up the parts would take longer than it saves.
  int64_t parts = rows <= count ? image_parts(count) : 1, size = rows * groups.channels;
  sum_in_parts(threads, sums, batch, parts, count, size, table->typed_data(),
               [&](int64_t item, int64_t begin, int64_t end, T* to) {
                 RowGroups own = groups;
                 own.index = item_data(index, item);
                 gather_kernels<T>().weighted_scatter_add(own, item_data(values, item), item_data(weights, item),
                                                          begin, end, to);
               });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(gather)
JNR_TARGET(gather, int32, xla::ffi::S32)
JNR_TARGETS(scatter_add)
JNR_TARGETS(weighted_gather)
JNR_TARGETS(weighted_scatter_add)
JNR_TARGETS(row_dot)
