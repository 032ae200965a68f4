// How a handler becomes a custom call of XLA's foreign function interface.
#pragma once

#include <new>

#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace jnr {

namespace ffi = xla::ffi;

// A handler whose failed allocations become an error of the custom call: exceptions must not reach XLA.
template <auto kHandler>
struct Guarded;
template <typename... Operands, ffi::Error (*kHandler)(Threads, Operands...)>
struct Guarded<kHandler> {
  static ffi::Error call(Threads threads, Operands... operands) {
    try {
      return kHandler(threads, operands...);
    } catch (const std::bad_alloc&) {
      return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jnr: out of memory");
    }
  }
};

}  // namespace jnr

// Defines custom call jnr_<op>_<suffix> by the handler jnr::op<type>. XLA derives operands, attributes and results from
// the handler's signature, and checks dtypes and ranks before it calls the handler.
#define JNR_TARGET(op, suffix, type)                                                                        \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* jnr_##op##_##suffix(XLA_FFI_CallFrame*); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(jnr_##op##_##suffix, jnr::Guarded<jnr::op<type>>::call);

#define JNR_TARGETS(op)                      \
  JNR_TARGET(op, float32, xla::ffi::F32)     \
  JNR_TARGET(op, float64, xla::ffi::F64)
