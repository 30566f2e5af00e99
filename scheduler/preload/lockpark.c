// libweft-lockpark.so, to be preloaded: counts the pthread mutexes that each thread holds, for
// WEFT_DEBUG=lockpark (scheduler/lockpark.cc). It needs nothing but libc, and does nothing but count.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#define LOCAL static _Thread_local __attribute__((tls_model("initial-exec")))

LOCAL int held;

// Sets the calling thread's count and returns what it was.
int weft_lockpark_exchange(int now) {
  int before = held;
  held = now;
  return before;
}

// The function that this library stands in front of; the same for every thread, so that who comes
// first does not matter.
static void* next_of(_Atomic(void*)* known, const char* name) {
  void* f = atomic_load_explicit(known, memory_order_relaxed);
  if (f == NULL) {
    f = dlsym(RTLD_NEXT, name);
    atomic_store_explicit(known, f, memory_order_relaxed);
  }
  return f;
}

// EOWNERDEAD: the mutex is held although its last owner died.
static int counted(int error) {
  if (error == 0 || error == EOWNERDEAD) ++held;
  return error;
}

int pthread_mutex_lock(pthread_mutex_t* m) {
  static _Atomic(void*) known;
  return counted(((int (*)(pthread_mutex_t*))next_of(&known, "pthread_mutex_lock"))(m));
}

int pthread_mutex_trylock(pthread_mutex_t* m) {
  static _Atomic(void*) known;
  return counted(((int (*)(pthread_mutex_t*))next_of(&known, "pthread_mutex_trylock"))(m));
}

int pthread_mutex_timedlock(pthread_mutex_t* m, const struct timespec* t) {
  static _Atomic(void*) known;
  typedef int function(pthread_mutex_t*, const struct timespec*);
  return counted(((function*)next_of(&known, "pthread_mutex_timedlock"))(m, t));
}

int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t c, const struct timespec* t) {
  static _Atomic(void*) known;
  typedef int function(pthread_mutex_t*, clockid_t, const struct timespec*);
  return counted(((function*)next_of(&known, "pthread_mutex_clocklock"))(m, c, t));
}

int pthread_mutex_unlock(pthread_mutex_t* m) {
  static _Atomic(void*) known;
  int error = ((int (*)(pthread_mutex_t*))next_of(&known, "pthread_mutex_unlock"))(m);
  if (error == 0) --held;
  return error;
}
