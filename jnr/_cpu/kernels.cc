#include "kernels.inc"

namespace jnr {
const Kernels<float> kFloat = kernels<float>();
const Kernels<double> kDouble = kernels<double>();
const TakeRows<int32_t> kTakeInts = take_rows<int32_t>;

int64_t sweep_scratch(int64_t length, int64_t channels) {
  int64_t padded = line_stride(length);
  // Of each line of a block the wanted columns, colours and cotangents, and its runs; a colour and its savers.
  return (kLineBlock * (2 * channels + 3) + 2) * padded + channels;
}
}  // namespace jnr
