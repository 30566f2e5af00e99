#pragma once
// Compiler and sanitizer facts that installed headers need.

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#ifndef WEFT_ASAN
#define WEFT_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif
#ifndef WEFT_TSAN
#define WEFT_TSAN 0
#endif

// A function whose result the compiler may not assume equal between two calls. noinline alone is
// not enough: both gcc and clang infer that a function returning a thread-local's address is pure
// and merge the calls around a task switch. Use together with asm volatile("") in the body.
#if defined(__clang__)
#define WEFT_OPAQUE __attribute__((noinline))
#else
#define WEFT_OPAQUE __attribute__((noipa, noinline))
#endif

#define WEFT_ALWAYS_INLINE [[gnu::always_inline]] inline

// For code that reads memory as it is: other threads' stacks, objects while they are written.
#define WEFT_NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined")))
