// XLA's custom calls for the CPU: checks sizes, splits the work over XLA's threads, calls the kernels.
//
// How the work is split depends on the sizes alone, never on the number of threads, so results are the same bits.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace jnr {
namespace {

template <typename T>
const Kernels<T>& kernels() {
#if defined(__x86_64__)
  static const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
#else
  static const bool v3 = false;
#endif
  if constexpr (std::is_same_v<T, float>) return v3 ? kFloatV3 : kFloat;
  if constexpr (std::is_same_v<T, double>) return v3 ? kDoubleV3 : kDouble;
}

// Vertices, faces, pixels or rows of a task.
constexpr int64_t kBlock = 8192;

// Tasks 0..count-1 on XLA's threads and this one. Waits for tasks that have begun, never for a thread to become free,
// so it cannot block the pool that it runs in.
void parallel_for(ffi::ThreadPool pool, int64_t count, std::function<void(int64_t)> task) {
  if (count <= 0) return;
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto state = std::make_shared<State>();
  auto work = [state, count, task = std::move(task)] {
    for (;;) {
      int64_t i = state->next.fetch_add(1);
      if (i >= count) return;
      task(i);
      if (state->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->finished.notify_all();
      }
    }
  };
  int64_t helpers = std::min<int64_t>(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(std::function<void()>(work));
  work();
  if (state->done.load() == count) return;
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done.load() == count; });
}

// Work on `count` things of each item of a batch, some at a time: task(item, begin, end).
template <typename Task>
void in_blocks(ffi::ThreadPool pool, int64_t batch, int64_t count, Task task) {
  int64_t blocks = (count + kBlock - 1) / kBlock;
  parallel_for(pool, batch * blocks, [&](int64_t block) {
    int64_t begin = block % blocks * kBlock;
    task(block / blocks, begin, std::min(count, begin + kBlock));
  });
}

// An operand of rank `rank` whose leading axis is the batch, of size 1 where it is shared.
template <typename Buffer>
auto* item_of(const Buffer& buffer, int64_t item) {
  auto dims = buffer.dimensions();
  int64_t size = 1;
  for (size_t k = 1; k < dims.size(); ++k) size *= dims[k];
  return buffer.typed_data() + (dims[0] == 1 ? 0 : item * size);
}

template <typename Buffer>
bool fits_batch(const Buffer& buffer, int64_t batch) {
  return buffer.dimensions()[0] == 1 || buffer.dimensions()[0] == batch;
}

template <typename Buffer>
bool fits(const Buffer& buffer, int64_t batch, std::initializer_list<int64_t> shape) {
  auto dims = buffer.dimensions();
  if (dims.size() != shape.size() + 1 || !fits_batch(buffer, batch)) return false;
  return std::equal(shape.begin(), shape.end(), dims.begin() + 1);
}

// In how many parts a large image's backward pass is done.
int64_t image_parts(int64_t pixels) { return pixels >= 512 * 512 ? 4 : 1; }

// Sums of `count` numbers each, made in parts that are added in order: add(sum, part, to) adds a part of a sum.
template <typename T, typename Add>
void add_in_parts(ffi::ThreadPool pool, int64_t sums, int64_t parts, int64_t count, T* total, Add add) {
  std::vector<std::unique_ptr<T[]>> others(size_t(sums * (parts - 1)));
  parallel_for(pool, sums * parts, [&](int64_t task) {
    int64_t sum = task / parts, part = task % parts;
    T* to = total + sum * count;
    if (part == 0) {
      std::fill(to, to + count, T(0));
    } else {
      auto& other = others[sum * (parts - 1) + part - 1];
      other.reset(new T[count]());
      to = other.get();
    }
    add(sum, part, to);
  });
  if (parts == 1) return;
  in_blocks(pool, sums, count, [&](int64_t sum, int64_t begin, int64_t end) {
    T* to = total + sum * count;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t k = begin; k < end; ++k) to[k] += others[sum * (parts - 1) + part - 1][k];
  });
}

// How many faces and vertices of each item there are, padding at the end left out: it costs a look at its index.
struct Used {
  std::vector<int64_t> faces, vertices;
};

template <typename Faces>
Used find_used(ffi::ThreadPool pool, const Faces& faces, int64_t batch, int64_t num_vertices) {
  int64_t num_faces = faces.dimensions()[1], sets = faces.dimensions()[0];
  Used used{std::vector<int64_t>(batch, 0), std::vector<int64_t>(batch, 0)};
  parallel_for(pool, std::min(sets, batch), [&](int64_t set) {
    const int32_t* index = item_of(faces, set);
    int64_t count = num_faces;
    while (count > 0 && index[3 * count - 3] < 0) --count;
    int32_t highest = -1;
    for (int64_t i = 0; i < 3 * count; ++i) highest = std::max(highest, index[i]);
    used.faces[set] = count;
    used.vertices[set] = std::min<int64_t>(int64_t(highest) + 1, num_vertices);
  });
  for (int64_t item = 1; item < batch && sets == 1; ++item) {
    used.faces[item] = used.faces[0];
    used.vertices[item] = used.vertices[0];
  }
  return used;
}

// The vertices of all items, or of the one set that they share, and their points if they are wanted.
template <typename T>
struct Placed {
  int64_t sets, num_vertices;
  std::unique_ptr<Vertex<T>[]> vertices;
  std::unique_ptr<Point<T>[]> points;

  int64_t offset(int64_t item) const { return sets == 1 ? 0 : item * num_vertices; }
};

template <typename T, typename Buffer>
Placed<T> place(ffi::ThreadPool pool, const Buffer& clip_positions, const Used& used, int64_t height, int64_t width,
                bool with_points) {
  int64_t sets = clip_positions.dimensions()[0], num_vertices = clip_positions.dimensions()[1];
  Placed<T> placed{sets, num_vertices, std::unique_ptr<Vertex<T>[]>(new Vertex<T>[sets * num_vertices]), nullptr};
  if (with_points) placed.points.reset(new Point<T>[sets * num_vertices]);
  in_blocks(pool, sets, num_vertices, [&](int64_t set, int64_t begin, int64_t end) {
    int64_t offset = set * num_vertices;
    int64_t all = sets == 1 ? *std::max_element(used.vertices.begin(), used.vertices.end()) : used.vertices[set];
    kernels<T>().place_vertices(clip_positions.typed_data() + 4 * offset, begin, std::min(all, end), height, width,
                                placed.vertices.get() + offset, with_points ? placed.points.get() + offset : nullptr);
  });
  return placed;
}

template <ffi::DataType kType>
ffi::Error rasterize(ffi::ThreadPool pool, ffi::Buffer<kType> clip_positions, ffi::Buffer<ffi::S32> faces, int64_t cull,
                     ffi::Result<ffi::Buffer<ffi::S32>> face_index) {
  using T = ffi::NativeType<kType>;
  auto out = face_index->dimensions();
  if (out.size() != 3 || clip_positions.dimensions().size() != 3 || faces.dimensions().size() != 3)
    return ffi::Error::InvalidArgument("jnr: operands must have a batch axis");
  int64_t batch = out[0], height = out[1], width = out[2];
  int64_t num_vertices = clip_positions.dimensions()[1], num_faces = faces.dimensions()[1];
  if (!fits(clip_positions, batch, {num_vertices, 4}) || !fits(faces, batch, {num_faces, 3}))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  if (batch == 0) return ffi::Error::Success();
  const Used used = find_used(pool, faces, batch, num_vertices);
  auto placed = place<T>(pool, clip_positions, used, height, width, true);
  // Whole tiles of rows; more bands than threads, since some have more to draw, and at most 16 of all items together.
  int64_t rows = (height + 7) / 8, bands = std::clamp<int64_t>(16 / std::max<int64_t>(batch, 1), 1, rows);
  int64_t band_rows = (rows + bands - 1) / bands * 8;
  bands = (height + band_rows - 1) / band_rows;
  auto item_at = [&](int64_t item) {
    return RasterizeItem<T>{placed.vertices.get() + placed.offset(item),
                            placed.points.get() + placed.offset(item),
                            item_of(faces, item),
                            used.vertices[item],
                            used.faces[item],
                            height,
                            width,
                            cull,
                            band_rows,
                            face_index->typed_data() + item * height * width};
  };
  int64_t padded = (num_faces + kFacesAtOnce - 1) / kFacesAtOnce * kFacesAtOnce;
  std::unique_ptr<uint8_t[]> first(new uint8_t[batch * padded]), last(new uint8_t[batch * padded]);
  in_blocks(pool, batch, padded, [&](int64_t item, int64_t begin, int64_t end) {
    uint8_t *from = first.get() + item * padded, *to = last.get() + item * padded;
    int64_t end_used = std::clamp(used.faces[item], begin, end);
    kernels<T>().find_bands(item_at(item), begin, end_used, from, to);
    std::fill(from + end_used, from + end, uint8_t(255));
    std::fill(to + end_used, to + end, uint8_t(0));
  });
  parallel_for(pool, batch * bands, [&](int64_t task) {
    int64_t item = task / bands, offset = item * padded;
    size_t pixels = size_t(band_rows) * size_t((width + kLanes - 1) / kLanes * kLanes);
    std::unique_ptr<float[]> depth(new float[pixels]);
    std::unique_ptr<int32_t[]> index(new int32_t[pixels]);
    kernels<T>().rasterize_band(item_at(item), task % bands, first.get() + offset, last.get() + offset, depth.get(),
                                index.get());
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error edge_sweep_bwd(ffi::ThreadPool pool, ffi::Buffer<kType> image, ffi::Buffer<kType> cotangent,
                          ffi::Buffer<kType> clip_positions, ffi::Buffer<ffi::S32> faces,
                          ffi::Buffer<ffi::S32> face_index, double eps, ffi::Result<ffi::Buffer<kType>> grad) {
  using T = ffi::NativeType<kType>;
  auto out = grad->dimensions(), pixels = image.dimensions();
  if (out.size() != 3 || pixels.size() != 4 || faces.dimensions().size() != 3)
    return ffi::Error::InvalidArgument("jnr: operands must have a batch axis");
  int64_t batch = out[0], num_vertices = out[1], num_faces = faces.dimensions()[1];
  int64_t height = pixels[1], width = pixels[2], channels = pixels[3];
  if (!fits(image, batch, {height, width, channels}) || !fits(cotangent, batch, {height, width, channels}) ||
      !fits(clip_positions, batch, {num_vertices, 4}) || !fits(faces, batch, {num_faces, 3}) ||
      !fits(face_index, batch, {height, width}))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  if (batch == 0) return ffi::Error::Success();
  const Used used = find_used(pool, faces, batch, num_vertices);
  auto placed = place<T>(pool, clip_positions, used, height, width, false);
  // Parts of an axis have sums of their own, which are added in order. The image's size alone says how many, so that a
  // mesh has the same gradient to the bit alone, in a batch and with padding.
  int64_t parts = image_parts(height * width);
  std::vector<std::unique_ptr<T[]>> sums(size_t(batch * 2 * parts));
  parallel_for(pool, batch * 2 * parts, [&](int64_t task) {
    int64_t item = task / (2 * parts), axis = task / parts % 2, part = task % parts;
    int64_t lines = axis ? height : width, length = axis ? width : height;
    SweepItem<T> one{item_of(image, item),
                     item_of(cotangent, item),
                     placed.vertices.get() + placed.offset(item),
                     item_of(faces, item),
                     item_of(face_index, item),
                     used.vertices[item],
                     used.faces[item],
                     height,
                     width,
                     channels,
                     T(eps)};
    sums[task].reset(new T[used.vertices[item]]());
    std::unique_ptr<T[]> scratch(new T[sweep_scratch(length, channels)]);
    kernels<T>().sweep_lines(one, int(axis), lines * part / parts, lines * (part + 1) / parts, sums[task].get(),
                             scratch.get());
  });
  in_blocks(pool, batch, num_vertices, [&](int64_t item, int64_t begin, int64_t end) {
    const T* clip = item_of(clip_positions, item);
    T* to = grad->typed_data() + item * num_vertices * 4;
    const int64_t end_used = std::clamp(used.vertices[item], begin, end);
    std::fill(to + 4 * end_used, to + 4 * end, T(0));
    for (int64_t v = begin; v < end_used; ++v) {
      T along[2] = {0, 0};
      for (int64_t axis = 0; axis < 2; ++axis)
        for (int64_t part = 0; part < parts; ++part) along[axis] += sums[(item * 2 + axis) * parts + part][v];
      // Rows grow downwards and y upwards. NDC x is x / w, so w has a part too.
      T x = along[1], y = -along[0], w = clip[4 * v + 3];
      T toward = x * clip[4 * v] + y * clip[4 * v + 1];
      to[4 * v] = x;
      to[4 * v + 1] = y;
      to[4 * v + 2] = 0;
      bool sound = w > 0 && std::isfinite(clip[4 * v] + clip[4 * v + 1] + clip[4 * v + 2] + w);
      to[4 * v + 3] = sound ? -toward / w : T(0);
    }
  });
  return ffi::Error::Success();
}

// Whether sizes fit; what `item` of the batch is resolved from.
template <ffi::DataType kType>
bool fit_resolve(const ffi::Buffer<kType>& clip, const ffi::Buffer<ffi::S32>& faces,
                 const ffi::Buffer<ffi::S32>& face_index, int64_t batch) {
  if (clip.dimensions().size() != 3 || faces.dimensions().size() != 3 || face_index.dimensions().size() != 3)
    return false;
  return fits(clip, batch, {clip.dimensions()[1], 4}) && fits(faces, batch, {faces.dimensions()[1], 3}) &&
         fits(face_index, batch, {face_index.dimensions()[1], face_index.dimensions()[2]});
}

template <ffi::DataType kType>
auto resolve_item(const ffi::Buffer<kType>& clip, const ffi::Buffer<ffi::S32>& faces,
                  const ffi::Buffer<ffi::S32>& face_index, int64_t item) {
  return ResolveItem<ffi::NativeType<kType>>{item_of(clip, item),
                                             item_of(faces, item),
                                             item_of(face_index, item),
                                             clip.dimensions()[1],
                                             faces.dimensions()[1],
                                             face_index.dimensions()[1],
                                             face_index.dimensions()[2]};
}

template <ffi::DataType kType>
ffi::Error resolve(ffi::ThreadPool pool, ffi::Buffer<kType> clip, ffi::Buffer<ffi::S32> faces,
                   ffi::Buffer<ffi::S32> face_index, ffi::Result<ffi::Buffer<kType>> resolved) {
  auto out = resolved->dimensions();
  if (out.size() != 4 || !fit_resolve(clip, faces, face_index, out[0]) || !fits(*resolved, out[0], {
      face_index.dimensions()[1], face_index.dimensions()[2], 3}))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  int64_t pixels = out[1] * out[2];
  in_blocks(pool, out[0], pixels, [&](int64_t item, int64_t begin, int64_t end) {
    kernels<ffi::NativeType<kType>>().resolve(resolve_item(clip, faces, face_index, item), begin, end,
                                              resolved->typed_data() + item * pixels * 3);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error resolve_bwd(ffi::ThreadPool pool, ffi::Buffer<kType> cotangent, ffi::Buffer<kType> clip,
                       ffi::Buffer<ffi::S32> faces, ffi::Buffer<ffi::S32> face_index,
                       ffi::Result<ffi::Buffer<kType>> grad) {
  using T = ffi::NativeType<kType>;
  auto out = grad->dimensions();
  int64_t batch = 0;
  for (auto* operand : {&faces, &face_index}) batch = std::max(batch, operand->dimensions()[0]);
  for (auto* operand : {&cotangent, &clip}) batch = std::max(batch, operand->dimensions()[0]);
  if (out.size() != 3 || out[0] == 0 || batch % out[0] != 0 || !fit_resolve(clip, faces, face_index, batch) ||
      !fits(cotangent, batch, {face_index.dimensions()[1], face_index.dimensions()[2], 3}) ||
      out[1] != clip.dimensions()[1] || out[2] != 4)
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  int64_t pixels = face_index.dimensions()[1] * face_index.dimensions()[2], parts = image_parts(pixels);
  int64_t each = batch / out[0];
  add_in_parts(pool, out[0], parts, out[1] * 4, grad->typed_data(), [&](int64_t sum, int64_t part, T* to) {
    for (int64_t item = sum * each; item < (sum + 1) * each; ++item)
      kernels<T>().resolve_bwd(resolve_item(clip, faces, face_index, item), item_of(cotangent, item),
                               pixels * part / parts, pixels * (part + 1) / parts, to);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error take_rows(ffi::ThreadPool pool, ffi::Buffer<kType> table, ffi::Buffer<ffi::S32> index,
                     ffi::Result<ffi::Buffer<kType>> taken) {
  using T = ffi::NativeType<kType>;
  auto out = taken->dimensions(), in = table.dimensions();
  if (out.size() != 3 || in.size() != 3) return ffi::Error::InvalidArgument("jnr: operands must have a batch axis");
  int64_t batch = out[0], count = out[1], channels = out[2], rows = in[1];
  if (!fits(table, batch, {rows, channels}) || !fits(index, batch, {count}))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  TakeRows<T> take;
  if constexpr (std::is_same_v<T, int32_t>)
    take = kTakeInts;
  else
    take = kernels<T>().take_rows;
  in_blocks(pool, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    take(item_of(table, item), rows, channels, item_of(index, item), begin, end,
         taken->typed_data() + item * count * channels);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error add_rows(ffi::ThreadPool pool, ffi::Buffer<kType> values, ffi::Buffer<ffi::S32> index,
                    ffi::Result<ffi::Buffer<kType>> table) {
  auto out = table->dimensions(), in = values.dimensions();
  if (out.size() != 3 || in.size() != 3 || index.dimensions().size() != 2)
    return ffi::Error::InvalidArgument("jnr: operands must have a batch axis");
  int64_t sums = out[0], rows = out[1], channels = out[2], count = in[1];
  int64_t batch = std::max(in[0], index.dimensions()[0]);
  if (sums == 0 || batch % sums != 0 || !fits(values, batch, {count, channels}) || !fits(index, batch, {count}))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  // A task has some of the rows and adds what belongs to them in one order, so the parts change no bit.
  int64_t parts = std::clamp<int64_t>(count * channels / (4 * kBlock), 1, 4), each = batch / sums;
  parallel_for(pool, sums * parts, [&](int64_t task) {
    int64_t sum = task / parts, begin = rows * (task % parts) / parts, end = rows * (task % parts + 1) / parts;
    auto* to = table->typed_data() + sum * rows * channels;
    std::fill(to + begin * channels, to + end * channels, 0);
    for (int64_t item = sum * each; item < (sum + 1) * each; ++item)
      kernels<ffi::NativeType<kType>>().add_rows(item_of(values, item), item_of(index, item), count, channels, begin,
                                                 end, to);
  });
  return ffi::Error::Success();
}

// The numbers of a blend of values (batch, count, channels), weights (batch, count, terms * each), a table (batch, groups
// * each, channels) and an index (batch, count, terms), each of which is a buffer or its result; none if they do not fit.
template <typename Values, typename Weights, typename Table, typename Index>
bool fit_blend(const Values& values, const Weights& weights, const Table& table, const Index& index, Blend* blend) {
  auto v = values.dimensions(), w = weights.dimensions(), t = table.dimensions(), n = index.dimensions();
  if (v.size() != 3 || w.size() != 3 || t.size() != 3 || n.size() != 3) return false;
  int64_t each = n[2] > 0 ? w[2] / n[2] : 1;
  *blend = {nullptr, each > 0 ? t[1] / each : 0, n[2], each, v[2]};
  return w[2] == n[2] * each && each > 0 && t[1] % each == 0 && v[1] == w[1] && v[1] == n[1] && v[2] == t[2];
}

// A kernel that makes something of each value of its own: values of a table and weights, or weights of values and a table.
template <typename T, typename Kernel, typename A, typename B, typename Index, typename To>
ffi::Error map_blend(ffi::ThreadPool pool, Kernel kernel, Blend blend, const A& a, const B& b, const Index& index,
                     To& to) {
  int64_t batch = to.dimensions()[0], count = to.dimensions()[1], size = count * to.dimensions()[2];
  if (!fits_batch(a, batch) || !fits_batch(b, batch) || !fits_batch(index, batch))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  in_blocks(pool, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    Blend own = blend;
    own.index = item_of(index, item);
    kernel(own, item_of(a, item), item_of(b, item), begin, end, to.typed_data() + item * size);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error blend_rows(ffi::ThreadPool pool, ffi::Buffer<kType> table, ffi::Buffer<kType> weights,
                      ffi::Buffer<ffi::S32> index, ffi::Result<ffi::Buffer<kType>> values) {
  using T = ffi::NativeType<kType>;
  Blend blend;
  if (!fit_blend(*values, weights, table, index, &blend))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  return map_blend<T>(pool, kernels<T>().blend_rows, blend, table, weights, index, *values);
}

template <ffi::DataType kType>
ffi::Error match_rows(ffi::ThreadPool pool, ffi::Buffer<kType> values, ffi::Buffer<kType> table,
                      ffi::Buffer<ffi::S32> index, ffi::Result<ffi::Buffer<kType>> weights) {
  using T = ffi::NativeType<kType>;
  Blend blend;
  if (!fit_blend(values, *weights, table, index, &blend))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  return map_blend<T>(pool, kernels<T>().match_rows, blend, values, table, index, *weights);
}

template <ffi::DataType kType>
ffi::Error spread_rows(ffi::ThreadPool pool, ffi::Buffer<kType> values, ffi::Buffer<kType> weights,
                       ffi::Buffer<ffi::S32> index, ffi::Result<ffi::Buffer<kType>> table) {
  using T = ffi::NativeType<kType>;
  Blend blend;
  if (!fit_blend(values, weights, *table, index, &blend))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  int64_t sums = table->dimensions()[0], rows = table->dimensions()[1], count = values.dimensions()[1];
  int64_t batch = std::max({values.dimensions()[0], weights.dimensions()[0], index.dimensions()[0]});
  if (sums == 0 || batch % sums != 0 || !fits_batch(values, batch) || !fits_batch(weights, batch) ||
      !fits_batch(index, batch))
    return ffi::Error::InvalidArgument("jnr: operands' shapes do not fit");
  // A large table is not worth a second one.
  int64_t parts = rows <= count ? image_parts(count) : 1, each = batch / sums;
  add_in_parts(pool, sums, parts, rows * blend.channels, table->typed_data(), [&](int64_t sum, int64_t part, T* to) {
    for (int64_t item = sum * each; item < (sum + 1) * each; ++item) {
      Blend own = blend;
      own.index = item_of(index, item);
      kernels<T>().spread_rows(own, item_of(values, item), item_of(weights, item), count * part / parts,
                               count * (part + 1) / parts, to);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jnr

#if defined(_WIN32)
#define JNR_EXPORT extern "C" __declspec(dllexport)
#else
#define JNR_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// A custom call under `name`: what XLA hands to `function` beside its threads.
#define JNR_TARGET(name, function, operands)          \
  JNR_EXPORT XLA_FFI_Error* name(XLA_FFI_CallFrame*); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() operands);

#define JNR_INTS .Arg<ffi::Buffer<ffi::S32>>()
#define JNR_ARG(type) .Arg<ffi::Buffer<type>>()
#define JNR_RET(type) .Ret<ffi::Buffer<type>>()

#define JNR_TARGETS(suffix, type)                                                                                     \
  JNR_TARGET(jnr_rasterize_##suffix, jnr::rasterize<type>,                                                            \
             JNR_ARG(type) JNR_INTS.Attr<int64_t>("cull") JNR_RET(ffi::S32))                                          \
  JNR_TARGET(jnr_edge_sweep_bwd_##suffix, jnr::edge_sweep_bwd<type>,                                                  \
             JNR_ARG(type) JNR_ARG(type) JNR_ARG(type) JNR_INTS JNR_INTS.Attr<double>("eps") JNR_RET(type))           \
  JNR_TARGET(jnr_resolve_##suffix, jnr::resolve<type>, JNR_ARG(type) JNR_INTS JNR_INTS JNR_RET(type))                 \
  JNR_TARGET(jnr_resolve_bwd_##suffix, jnr::resolve_bwd<type>,                                                        \
             JNR_ARG(type) JNR_ARG(type) JNR_INTS JNR_INTS JNR_RET(type))                                             \
  JNR_TARGET(jnr_take_rows_##suffix, jnr::take_rows<type>, JNR_ARG(type) JNR_INTS JNR_RET(type))                      \
  JNR_TARGET(jnr_add_rows_##suffix, jnr::add_rows<type>, JNR_ARG(type) JNR_INTS JNR_RET(type))                        \
  JNR_TARGET(jnr_blend_rows_##suffix, jnr::blend_rows<type>, JNR_ARG(type) JNR_ARG(type) JNR_INTS JNR_RET(type))      \
  JNR_TARGET(jnr_spread_rows_##suffix, jnr::spread_rows<type>, JNR_ARG(type) JNR_ARG(type) JNR_INTS JNR_RET(type))    \
  JNR_TARGET(jnr_match_rows_##suffix, jnr::match_rows<type>, JNR_ARG(type) JNR_ARG(type) JNR_INTS JNR_RET(type))

JNR_TARGETS(float32, ffi::F32)
JNR_TARGETS(float64, ffi::F64)
JNR_TARGET(jnr_take_rows_int32, jnr::take_rows<ffi::S32>, JNR_INTS JNR_INTS JNR_RET(ffi::S32))
