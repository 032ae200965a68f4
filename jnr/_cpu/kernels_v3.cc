// The kernels for x86-64 processors with AVX2.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#endif

#include "kernels.inc"

namespace jnr {
const Kernels<float> kFloatV3 = kernels<float>();
const Kernels<double> kDoubleV3 = kernels<double>();
}  // namespace jnr

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
