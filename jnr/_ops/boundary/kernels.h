#pragma once

#include <cstdint>

#include "../cpp/variants.h"
#include "../cpp/vectors.h"
#include "../cpp/vertices.h"

namespace jnr {

// A gap is the piece of a row or a column between two neighbouring pixel centres, p and then q. Gaps of rows come
// first, each under the pixel p, and then those of columns: (2, height, width).

// What is known of a gap in which a boundary crosses, see `_Own` in definition.py.
template <typename T>
struct Gap {
  int64_t index;
  bool is_p;
  int32_t reach, edge, least;
  T depth, other_p, other_q;
  uint64_t furthest;
};

// One item of a batch.
template <typename T>
struct CrossingsItem {
  const Vertex<T>* vertices;
  const Point<T>* points;
  const int32_t* faces;
  const int32_t* face_index;
  const bool* active;
  int64_t num_vertices, num_faces, height, width;
  // A bit per wanted gap, of rows (height, row_words) and of columns (width, column_words).
  uint64_t *row_bits, *column_bits;
  int64_t row_words, column_words;
  // Result, (2, height, width, 2). Before `choose` it holds the numbers of the gaps in `gaps`.
  int32_t* crossings;
  Gap<T>* gaps;
};

// Rows that share the words of `column_bits`.
constexpr int64_t kRowBlock = 64;

template <typename T>
struct MotionItem {
  const T* force;
  const int32_t* crossings;
  const Vertex<T>* vertices;
  const int32_t* faces;
  const int32_t* face_index;
  int64_t num_vertices, num_faces, height, width;
};

template <typename T>
struct BoundaryKernels {
  // Marks the wanted gaps of rows [first, end), which begin at a multiple of kRowBlock, and returns their number.
  int64_t (*mark_gaps)(const CrossingsItem<T>& item, int64_t first, int64_t end);
  // Finds the nearer surface at each of them. The first one is number `number`.
  void (*find_own)(const CrossingsItem<T>& item, int64_t first, int64_t end, int64_t number);
  // Offers the edges of faces [begin, end) to the gaps that they cross.
  void (*find_edges)(const CrossingsItem<T>& item, int64_t begin, int64_t end);
  // Writes the result of gaps [begin, end).
  void (*choose)(const CrossingsItem<T>& item, int64_t begin, int64_t end);
  // Adds to `grad` (vertices, 4), in pixel space, what the crossings of gaps [begin, end) pull.
  void (*add_motion)(const MotionItem<T>& item, int64_t begin, int64_t end, T* grad);
};

JNR_DECLARE_KERNELS(BoundaryKernels, boundary_kernels)

}  // namespace jnr
