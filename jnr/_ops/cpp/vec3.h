// Vectors of three coordinates.
//
// Everything here has internal linkage; variants.h says why.
#pragma once

#include "vectors.h"

namespace jnr {
namespace {

template <typename T>
struct Vec3 {
  T x, y, z;
};
template <typename T>
inline Vec3<T> vec3(const T* from) {
  return {from[0], from[1], from[2]};
}
template <typename T>
inline Vec3<T> operator-(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <typename T>
inline Vec3<T> operator+(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <typename T>
inline Vec3<T> operator*(const Vec3<T>& a, T factor) {
  return {a.x * factor, a.y * factor, a.z * factor};
}
template <typename T>
inline T dot(const Vec3<T>& a, const Vec3<T>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <typename T>
inline Vec3<T> cross(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <typename T>
inline T largest(const Vec3<T>& a) {
  return maximum(maximum(absolute(a.x), absolute(a.y)), absolute(a.z));
}
template <typename T>
inline bool is_finite(const Vec3<T>& a) {
  return is_finite(a.x) && is_finite(a.y) && is_finite(a.z);
}
template <typename T>
inline void add_to(T* to, const Vec3<T>& a) {
  to[0] += a.x, to[1] += a.y, to[2] += a.z;
}

// A vector divided by its length, and the inverse of the length. Both are zero for a vector without direction.
template <typename T>
struct Unit {
  Vec3<T> vector;
  T inverse;
};
template <typename T>
inline Unit<T> unit(const Vec3<T>& a) {
  const T squared = a.x * a.x + a.y * a.y + a.z * a.z;
  if (!(squared > 0 && is_finite(squared))) return {{0, 0, 0}, 0};
  const T length = sqrt(squared);
  return {{a.x / length, a.y / length, a.z / length}, 1 / length};
}
// Cotangent of the vector from that of the unit vector.
template <typename T>
inline Vec3<T> unit_cotangent(const Unit<T>& unit, const Vec3<T>& cotangent) {
  const Vec3<T>& n = unit.vector;
  const T along = n.x * cotangent.x + n.y * cotangent.y + n.z * cotangent.z;
  return (cotangent - n * along) * unit.inverse;
}

// A unit vector, and the power of two that its vector was multiplied by before the division.
template <typename T>
struct Normalized {
  Unit<T> unit;
  T scale;
};

}  // namespace
}  // namespace jnr
