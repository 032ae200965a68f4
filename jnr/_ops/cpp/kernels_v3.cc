// All kernels, for x86-64 processors with AVX2 (x86-64-v3). See variants.h.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#endif

#define JNR_VARIANT(name) name##_avx2
#include "kernels.cc"

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
