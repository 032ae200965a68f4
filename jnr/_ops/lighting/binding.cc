// Custom calls jnr_lit_colors_*, jnr_lit_colors_bwd_surface_* and jnr_lit_colors_bwd_albedo_*.

#include <algorithm>
#include <vector>

#include "../cpp/buffers.h"
#include "../cpp/targets.h"
#include "../cpp/threads.h"
#include "kernels.h"

namespace jnr {
namespace {

// The op's operands, checked against `batch`. Lights are prepared once per item that has its own.
template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
class Scene {
 public:
  Scene(const ffi::Buffer<kType, 3>& surface, const ffi::Buffer<kType, 3>& albedo, const ffi::Buffer<kType, 2>& side,
        const ffi::Buffer<kType, 3>& lights, const ffi::Buffer<kType, 2>& highlight,
        const ffi::Buffer<kType, 2>& viewer)
      : surface_(surface), albedo_(albedo), side_(side), lights_(lights), highlight_(highlight), viewer_(viewer) {
    int64_t rows = dim(lights, 1), row = dim(lights, 2) + 3;
    if (!fits(batch())) return;
    prepared_.resize(dim(lights, 0) * (rows - 1) * row);
    for (int64_t item = 0; item < dim(lights, 0); ++item)
      lighting_kernels<T>().prepare_lights(item_data(lights, item) + dim(lights, 2), rows - 1, channels(),
                                           prepared_.data() + item * (rows - 1) * row);
  }

  int64_t batch() const { return largest_batch(surface_, albedo_, side_, lights_, highlight_, viewer_); }
  int64_t count() const { return dim(surface_, 1); }
  int64_t columns() const { return dim(surface_, 2); }
  int64_t channels() const { return dim(albedo_, 2); }
  bool in_threes() const { return channels() % 3 == 0; }
  bool has_highlights() const { return columns() == 8; }

  bool fits(int64_t batch) const {
    return (columns() == 4 || columns() == 8) && dim(lights_, 1) >= 1 && has_batch(lights_, batch) &&
           dim(lights_, 2) == 3 + channels() && has_batch(surface_, batch) &&
           has_shape(albedo_, batch, {count(), channels()}) && has_shape(side_, batch, {count()}) &&
           has_shape(highlight_, batch, {channels() + 1}) && has_shape(viewer_, batch, {4});
  }

  LitSurface<T> item(int64_t item) const {
    int64_t num_lights = dim(lights_, 1) - 1, own = dim(lights_, 0) == 1 ? 0 : item;
    return {item_data(surface_, item),
            columns(),
            item_data(albedo_, item),
            item_data(side_, item),
            item_data(lights_, item) + 3,
            prepared_.data() + own * num_lights * (6 + channels()),
            item_data(highlight_, item),
            item_data(viewer_, item),
            num_lights,
            channels()};
  }

 private:
  const ffi::Buffer<kType, 3>& surface_;
  const ffi::Buffer<kType, 3>& albedo_;
  const ffi::Buffer<kType, 2>& side_;
  const ffi::Buffer<kType, 3>& lights_;
  const ffi::Buffer<kType, 2>& highlight_;
  const ffi::Buffer<kType, 2>& viewer_;
  std::vector<T> prepared_;
};

template <ffi::DataType kType>
ffi::Error lit_colors(Threads threads, ffi::Buffer<kType, 3> surface, ffi::Buffer<kType, 3> albedo,
                      ffi::Buffer<kType, 2> side, ffi::Buffer<kType, 3> lights, ffi::Buffer<kType, 2> highlight,
                      ffi::Buffer<kType, 2> viewer, ffi::ResultBuffer<kType, 3> colors) {
  using T = ffi::NativeType<kType>;
  int64_t batch = dim(*colors, 0), count = dim(*colors, 1), channels = dim(*colors, 2);
  Scene<kType> scene(surface, albedo, side, lights, highlight, viewer);
  if (!scene.fits(batch) || scene.count() != count || scene.channels() != channels) return shape_error();
  auto* kernel = lighting_kernels<T>().lit_colors[scene.in_threes()][scene.has_highlights()];
  parallel_for_blocks(threads, batch, count, [&](int64_t item, int64_t begin, int64_t end) {
    kernel(scene.item(item), begin, end, colors->typed_data() + item * count * channels);
  });
  return ffi::Error::Success();
}

// A cotangent map with a row of numbers per point.
template <ffi::DataType kType, typename Kernel>
ffi::Error add_rows(Threads threads, Kernel kernel, const Scene<kType>& scene, const ffi::Buffer<kType, 3>& cotangent,
                    int64_t columns, ffi::Buffer<kType, 3>& grad) {
  int64_t results = dim(grad, 0), count = dim(grad, 1), batch = std::max(scene.batch(), dim(cotangent, 0));
  if (!scene.fits(batch) || !has_shape(cotangent, batch, {scene.count(), scene.channels()}) ||
      count != scene.count() || dim(grad, 2) != columns || !divides(std::max<int64_t>(results, 1), batch))
    return shape_error();
  sum_rows(threads, results, batch, count, columns, grad.typed_data(),
           [&](int64_t item, int64_t begin, int64_t end, auto* to) {
             kernel(scene.item(item), item_data(cotangent, item), begin, end, to);
           });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
ffi::Error lit_colors_bwd_surface(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> surface,
                                  ffi::Buffer<kType, 3> albedo, ffi::Buffer<kType, 2> side,
                                  ffi::Buffer<kType, 3> lights, ffi::Buffer<kType, 2> highlight,
                                  ffi::Buffer<kType, 2> viewer, ffi::ResultBuffer<kType, 3> grad) {
  Scene<kType> scene(surface, albedo, side, lights, highlight, viewer);
  auto* kernel =
      lighting_kernels<ffi::NativeType<kType>>().add_surface[scene.in_threes()][scene.has_highlights()];
  return add_rows(threads, kernel, scene, cotangent, scene.columns(), *grad);
}

template <ffi::DataType kType>
ffi::Error lit_colors_bwd_albedo(Threads threads, ffi::Buffer<kType, 3> cotangent, ffi::Buffer<kType, 3> surface,
                                 ffi::Buffer<kType, 3> albedo, ffi::Buffer<kType, 2> side,
                                 ffi::Buffer<kType, 3> lights, ffi::Buffer<kType, 2> highlight,
                                 ffi::Buffer<kType, 2> viewer, ffi::ResultBuffer<kType, 3> grad) {
  Scene<kType> scene(surface, albedo, side, lights, highlight, viewer);
  auto* kernel = lighting_kernels<ffi::NativeType<kType>>().add_albedo[scene.in_threes()];
  return add_rows(threads, kernel, scene, cotangent, scene.channels(), *grad);
}

}  // namespace
}  // namespace jnr

JNR_TARGETS(lit_colors)
JNR_TARGETS(lit_colors_bwd_surface)
JNR_TARGETS(lit_colors_bwd_albedo)
