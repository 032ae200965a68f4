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

// A mesh in clip space.
template <typename T>
struct ClipMesh {
  const T* clip;
  const int32_t* faces;
  int64_t num_vertices, num_faces, height, width;
};

// Tiles say whether there is a gap nearby. A level's tiles are twice as wide as those of the level before. Sizes of faces
// are 16-bit numbers, and so there are 16 levels.
constexpr int kTileLevels = 16;

// Where the tiles of a level begin, and how many a row has: all that the image touches and one that is empty.
struct TileLevel {
  int32_t begin, columns;
};

// The code of a vertex that has no place in the image.
constexpr int32_t kNowhere = int32_t(0x80008000);

// One item of a batch.
template <typename T>
struct CrossingsItem {
  ClipMesh<T> mesh;
  Point<T>* points;
  const int32_t* face_index;
  const bool* active;
  // A bit per wanted gap, of rows (height, row_words) and of columns (width, column_words).
  uint64_t *row_bits, *column_bits;
  int64_t row_words, column_words;
  // Per vertex the last row and column before it, 16 bits each, in steps of 2^code_shift pixels, at most one
  // beyond the image.
  int32_t* codes;
  int code_shift;
  // Per tile whether it has a pixel of a gap, and whether it, the next one to the right or one of the two below has.
  // Tiles of level k have 2^(code_shift + 1 + k) pixels along a side.
  uint8_t *tiles, *near;
  const TileLevel* levels;
  // Result, (2, height, width, 2). Before `choose` it holds the numbers of the gaps in `gaps`.
  int32_t* crossings;
  Gap<T>* gaps;
};

// Rows that share the words of `column_bits`.
constexpr int64_t kRowBlock = 64;

template <typename T>
struct MotionItem {
  ClipMesh<T> mesh;
  const T* force;
  const int32_t* crossings;
  const int32_t* face_index;
};

template <typename T>
struct BoundaryKernels {
  // Places vertices [begin, end) in the image.
  void (*place_points)(const CrossingsItem<T>& item, int64_t begin, int64_t end);
  // Marks the wanted gaps of rows [first, end), which begin at a multiple of kRowBlock, and returns their number.
  int64_t (*mark_gaps)(const CrossingsItem<T>& item, int64_t first, int64_t end);
  // Finds the nearer surface at each of them. The first one is number `number`.
  void (*find_own)(const CrossingsItem<T>& item, int64_t first, int64_t end, int64_t number);
  // Marks the tiles, after the gaps of the whole image.
  void (*mark_tiles)(const CrossingsItem<T>& item);
  // Offers the edges of faces [begin, end) to the gaps that they cross.
  void (*find_edges)(const CrossingsItem<T>& item, int64_t begin, int64_t end);
  // Writes the result of gaps [begin, end).
  void (*choose)(const CrossingsItem<T>& item, int64_t begin, int64_t end);
  // Adds to `grad` (vertices, 4) what the crossings of gaps [begin, end) pull.
  void (*add_motion)(const MotionItem<T>& item, int64_t begin, int64_t end, T* grad);
};

JNR_DECLARE_KERNELS(BoundaryKernels, boundary_kernels)

}  // namespace jnr
