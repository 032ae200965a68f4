// How an op's table of kernels exists in variants, of which one is chosen at run time.
//
// Kernels are compiled twice, for any processor of the architecture (kernels.cc) and for AVX2 (kernels_v3.cc). The
// linker keeps one of two functions with the same name, so a function that both files instantiate might be the one for
// AVX2 on a processor that lacks it. So everything in .inc files and in what they include is in an anonymous namespace
// or a plain struct, and .inc files instantiate no template of the standard library.
#pragma once

namespace jnr {

inline bool has_avx2() {
#if defined(__x86_64__)
  static const bool value = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                            __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  return value;
#else
  return false;
#endif
}

}  // namespace jnr

// In an op's kernels.h: declares accessor<T>(), the table of kernels for this processor.
#define JNR_DECLARE_KERNELS(Table, accessor)     \
  template <typename T>                          \
  const Table<T>& accessor();                    \
  JNR_DECLARE_KERNELS_OF(Table, accessor, float) \
  JNR_DECLARE_KERNELS_OF(Table, accessor, double)
#define JNR_DECLARE_KERNELS_OF(Table, accessor, T)                    \
  extern const Table<T> accessor##_##T##_any, accessor##_##T##_avx2;  \
  template <>                                                         \
  inline const Table<T>& accessor<T>() {                              \
    return has_avx2() ? accessor##_##T##_avx2 : accessor##_##T##_any; \
  }

// In an op's kernels.inc: defines the table of the variant that is being compiled. The last argument initializes a
// Table<T>. JNR_VARIANT(name) appends _any or _avx2.
#define JNR_DEFINE_KERNELS(Table, accessor, ...)                         \
  namespace {                                                            \
  template <typename T>                                                  \
  constexpr Table<T> accessor##_table = __VA_ARGS__;                     \
  }                                                                      \
  JNR_DEFINE_KERNELS_OF(Table, accessor, float, accessor##_table<float>) \
  JNR_DEFINE_KERNELS_OF(Table, accessor, double, accessor##_table<double>)
#define JNR_DEFINE_KERNELS_OF(Table, accessor, T, ...) const Table<T> JNR_VARIANT(accessor##_##T) = __VA_ARGS__;
