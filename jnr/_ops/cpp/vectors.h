// Vectors of kLanes numbers, their operations by name, and the same operations on single numbers.
//
// Everything here has internal linkage; variants.h says why.
#pragma once

#include <cstdint>

namespace jnr {
namespace {

// Arrays that are read by whole vectors are padded to a multiple of this.
constexpr int64_t kLanes = 8;

constexpr int64_t padded_length(int64_t length) { return (length + kLanes - 1) / kLanes * kLanes; }

// The signed integer as wide as a number: masks have -1 for true and 0 for false.
template <typename T>
struct MaskElement;
template <>
struct MaskElement<float> {
  typedef int32_t Type;
};
template <>
struct MaskElement<double> {
  typedef int64_t Type;
};
template <>
struct MaskElement<int32_t> {
  typedef int32_t Type;
};

// Attributes are lost in alias templates, hence the struct.
template <typename T>
struct VectorTypes {
  typedef T Vector __attribute__((vector_size(kLanes * sizeof(T))));
  typedef typename MaskElement<T>::Type Mask __attribute__((vector_size(kLanes * sizeof(T))));
};
template <typename T>
using Vector = typename VectorTypes<T>::Vector;
template <typename T>
using Mask = typename VectorTypes<T>::Mask;

// Reads a value of any type from an address of any alignment.
template <typename V>
inline V load(const void* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}
template <typename V>
inline void store(void* to, const V& value) {
  __builtin_memcpy(to, &value, sizeof(V));
}
template <typename V, typename T>
inline V splat(T value) {
  return value - V{};
}
template <typename T>
inline Vector<T> iota() {
  Vector<T> value;
  for (int64_t i = 0; i < kLanes; ++i) value[i] = T(i);
  return value;
}
// Element by element, of a mask too.
template <typename To, typename From>
inline To convert(const From& value) {
  return __builtin_convertvector(value, To);
}
template <typename M, typename V>
inline V select(const M& mask, const V& if_true, const V& if_false) {
  return mask ? if_true : if_false;
}
template <typename M>
inline bool any(const M& mask) {
  uint64_t words[sizeof(M) / 8], all = 0;
  store(words, mask);
  for (uint64_t word : words) all |= word;
  return all != 0;
}
// In pairs, so that the order is the same on every processor.
template <typename T>
inline T horizontal_sum(const Vector<T>& value) {
  T part[kLanes];
  store(part, value);
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

// Of vectors and of single numbers. Where a number is NaN, `minimum` and `maximum` return b.
template <typename V>
inline V minimum(const V& a, const V& b) {
  return a < b ? a : b;
}
template <typename V>
inline V maximum(const V& a, const V& b) {
  return a > b ? a : b;
}
template <typename V>
inline V absolute(const V& a) {
  return a < V{} ? -a : a;
}

// The distance from 1 to the next larger number.
template <typename T>
constexpr T kEpsilon = sizeof(T) == 4 ? T(0x1p-23) : T(0x1p-52);

inline float sqrt(float a) { return __builtin_sqrtf(a); }
inline double sqrt(double a) { return __builtin_sqrt(a); }
inline float floor(float a) { return __builtin_floorf(a); }
inline double floor(double a) { return __builtin_floor(a); }
inline float ceil(float a) { return __builtin_ceilf(a); }
inline double ceil(double a) { return __builtin_ceil(a); }
template <typename T>
inline bool is_finite(T a) {
  return a - a == 0;
}
inline bool in_range(int32_t index, int64_t size) { return index >= 0 && index < size; }

// A size that is known at compile time, or `size` where the template argument is 0.
template <int64_t kKnown>
inline int64_t known_or(int64_t size) {
  return kKnown > 0 ? kKnown : size;
}

template <int64_t kValue>
struct Constant {
  static constexpr int64_t value = kValue;
};

// Calls kernel(channels) with the number of channels as a Constant.
template <typename Kernel>
inline void with_channels(int64_t channels, Kernel kernel) {
  switch (channels) {
    case 1: return kernel(Constant<1>());
    case 2: return kernel(Constant<2>());
    case 3: return kernel(Constant<3>());
    case 4: return kernel(Constant<4>());
    default: return kernel(Constant<0>());
  }
}

template <typename T>
inline bool is_zero(const T* value, int64_t channels) {
  bool zero = true;
  for (int64_t c = 0; c < channels; ++c) zero &= value[c] == 0;
  return zero;
}

// A power of two that brings `largest` near 1: an exact rescaling. By the bits of a float32, since frexp is slow.
template <typename T>
inline T power_of_two_scale(T largest) {
  const float clamped = float(minimum(T(0x1p126f), maximum(largest, T(0x1p-126f))));
  const int32_t bits = (254 << 23) - (load<int32_t>(&clamped) & 0x7F800000);
  return T(load<float>(&bits));
}
template <typename T>
inline Vector<T> power_of_two_scales(const Vector<T>& largest) {
  typedef Vector<T> V;
  const Vector<float> clamped =
      convert<Vector<float>>(minimum(splat<V>(T(0x1p126f)), maximum(largest, splat<V>(T(0x1p-126f)))));
  const Vector<int32_t> bits = (254 << 23) - (load<Vector<int32_t>>(&clamped) & 0x7F800000);
  return convert<V>(load<Vector<float>>(&bits));
}

}  // namespace
}  // namespace jnr
