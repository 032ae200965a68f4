// Work on XLA's threads. How it is split depends on the sizes alone, never on the number of threads, so that results
// are deterministic.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace jnr {

// XLA's thread pool, as a handler's first argument.
struct Threads {
  xla::ffi::ThreadPool pool;
  Threads(xla::ffi::ThreadPool pool) : pool(pool) {}
};

// Runs tasks 0..count-1 on XLA's threads and this one. Waits for tasks that have begun, never for a thread to become
// free, so it cannot block the pool that it runs in. Every task runs, and an exception of one is thrown here at the
// end.
inline void parallel_for(Threads threads, int64_t count, std::function<void(int64_t)> task) {
  // Helpers that start late outlive this call: they find no task left, and touch nothing else.
  struct State {
    int64_t count;
    std::function<void(int64_t)> task;
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr error;

    State(int64_t count, std::function<void(int64_t)> task) : count(count), task(std::move(task)) {}

    void run() noexcept {
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        try {
          task(i);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          error = std::current_exception();
        }
        if (done.fetch_add(1) + 1 == count) {
          std::lock_guard<std::mutex> lock(mutex);
          finished.notify_all();
        }
      }
    }
  };
  if (count <= 0) return;
  auto state = std::make_shared<State>(count, std::move(task));
  try {
    int64_t helpers = std::min<int64_t>(count, threads.pool.num_threads()) - 1;
    for (int64_t i = 0; i < helpers; ++i) threads.pool.Schedule([state] { state->run(); });
  } catch (const std::bad_alloc&) {
    // Fewer helpers: this thread runs what they leave.
  }
  state->run();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done.load() == count; });
  if (state->error) std::rethrow_exception(state->error);
}

// Vertices, faces, pixels or rows per task.
constexpr int64_t kBlock = 8192;

// Work on `count` elements of each batch item in blocks: task(item, begin, end).
template <typename Task>
void parallel_for_blocks(Threads threads, int64_t batch, int64_t count, Task task) {
  int64_t blocks = (count + kBlock - 1) / kBlock;
  parallel_for(threads, batch * blocks, [&](int64_t block) {
    int64_t begin = block % blocks * kBlock;
    task(block / blocks, begin, std::min(count, begin + kBlock));
  });
}

}  // namespace jnr

template <>
struct xla::ffi::CtxBinding<jnr::Threads> {
  using Ctx = xla::ffi::ThreadPool;
};
