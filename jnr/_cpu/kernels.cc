#include "kernels.inc"

namespace jnr {
const Kernels<float> kFloat = kernels<float>();
const Kernels<double> kDouble = kernels<double>();
const TakeRows<int32_t> kTakeInts = take_rows<int32_t>;

int64_t sweep_scratch(int64_t length, int64_t channels) {
  int64_t padded = line_stride(length);
  // A block's image, cotangent and faces; the line's wanted columns, image, cotangent, twice; counts.
  return kLineBlock * padded * (2 * channels + 1) + padded * (2 * channels + 4) + 4 * kLanes + channels;
}
}  // namespace jnr
