#pragma once

#include <cstdint>

#include "../cpp/variants.h"

namespace jnr {

// The weighted ops connect values (count, channels), weights (count, terms * group_size) and a table
// (groups * group_size, channels). An index (count, terms) is the number of a group of consecutive rows of the table.
struct RowGroups {
  const int32_t* index;
  int64_t groups, terms, group_size, channels;
};

// Copies rows of a table by index for [begin, end), with zeros (integers: -1) for indices out of range.
template <typename T>
using GatherKernel = void (*)(const T* table, int64_t rows, int64_t channels, const int32_t* index, int64_t begin,
                              int64_t end, T* values);

// The weighted kernels work on values [begin, end).
template <typename T>
struct GatherKernels {
  GatherKernel<T> gather;
  // Adds values (count, channels) in their order to the rows of the table that their index names. Only to rows
  // [begin, end).
  void (*scatter_add)(const T* values, const int32_t* index, int64_t count, int64_t channels, int64_t begin,
                      int64_t end, T* table);
  // values = sum over terms and rows of weights * table.
  void (*weighted_gather)(const RowGroups& groups, const T* table, const T* weights, int64_t begin, int64_t end,
                          T* values);
  // table += weights * values.
  void (*weighted_scatter_add)(const RowGroups& groups, const T* values, const T* weights, int64_t begin, int64_t end,
                               T* table);
  // weights = sum over channels of values * table.
  void (*row_dot)(const RowGroups& groups, const T* values, const T* table, int64_t begin, int64_t end, T* weights);
};

// Integers are only gathered.
template <>
struct GatherKernels<int32_t> {
  GatherKernel<int32_t> gather;
};

JNR_DECLARE_KERNELS(GatherKernels, gather_kernels)
JNR_DECLARE_KERNELS_OF(GatherKernels, gather_kernels, int32_t)

}  // namespace jnr
