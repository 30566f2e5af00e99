// The calling stack, from all the places where an allocation may happen.
#include "profiler/stack_here.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <weft/weft.h>

#include <boost/container/static_vector.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "profiler/symbolize.h"
#include "profiler/unwind.h"

namespace stack_here_test {

// Without memory of the heap, because one is taken in a signal handler.
struct trace {
  boost::container::static_vector<uintptr_t, 256> pcs;
  bool truncated;
};

[[gnu::noinline]] trace take(size_t depth = 128) {
  boost::container::static_vector<uintptr_t, 256> pcs(depth);
  const weft::prof::captured_stack s = weft::prof::stack_here({pcs.data(), pcs.size()});
  pcs.resize(s.depth);
  asm volatile("" : : "r"(pcs.data()) : "memory");
  return {pcs, s.truncated};
}

[[gnu::noinline]] trace recurse(int n, size_t depth = 128) {
  trace t = n == 0 ? take(depth) : recurse(n - 1, depth);
  asm volatile("" : : "r"(t.pcs.data()) : "memory");
  return t;
}

}  // namespace stack_here_test

namespace weft::prof {
namespace {

using stack_here_test::recurse;
using stack_here_test::take;
using stack_here_test::trace;

std::vector<std::string> names(const trace& t) {
  std::vector<std::string> out;
  for (uintptr_t pc : t.pcs) {
    for (const frame& f : symbolize(pc - 1)) out.push_back(f.name);
  }
  return out;
}

size_t count(const std::vector<std::string>& all, std::string_view part) {
  size_t n = 0;
  for (const std::string& name : all) n += name.find(part) != std::string::npos ? 1 : 0;
  return n;
}

void expect_whole(const trace& t) {
  const std::vector<std::string> all = names(t);
  EXPECT_FALSE(t.truncated);
  ASSERT_FALSE(all.empty());
  EXPECT_NE(all.front().find("take"), std::string::npos) << all.front();
  EXPECT_EQ(count(all, "recurse"), 11u);
}

TEST(StackHere, OfTheFirstThread) {
  unwind_refresh();
  const trace t = recurse(10);
  expect_whole(t);
  EXPECT_GE(count(names(t), "main"), 1u);
}

TEST(StackHere, OfAThreadThatTheRuntimeDoesNotKnow) {
  trace t;
  std::thread([&] { t = recurse(10); }).join();
  expect_whole(t);
  // In libc, whose own symbols do not name the function that starts threads.
  Dl_info outermost{};
  ASSERT_NE(::dladdr(reinterpret_cast<void*>(t.pcs.back()), &outermost), 0);
  EXPECT_NE(std::string_view(outermost.dli_fname).find("libc"), std::string_view::npos)
      << outermost.dli_fname;
}

TEST(StackHere, OfAThreadOnAStackOfTheProgramsOwn) {
  constexpr size_t size = 1 << 20;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_attr_t attr;
  ::pthread_attr_init(&attr);
  ::pthread_attr_setstack(&attr, memory, size);
  trace t;
  pthread_t thread;
  ASSERT_EQ(::pthread_create(
                &thread, &attr,
                [](void* out) -> void* {
                  *static_cast<trace*>(out) = recurse(10);
                  return nullptr;
                },
                &t),
            0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&attr);
  ::munmap(memory, size);
  expect_whole(t);
}

TEST(StackHere, OfATask) {
  trace t;
  run([&] { t = recurse(10); });
  expect_whole(t);
}

TEST(StackHere, OnAnAlternateStackNothingIsReadThatIsNotThere) {
  static trace t;
  static char stack[64 * 1024];
  stack_t alternate{}, before{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  ASSERT_EQ(::sigaltstack(&alternate, &before), 0);
  struct sigaction action {
  }, old{};
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = [](int) { t = recurse(10); };
  ::sigaction(SIGUSR2, &action, &old);
  ::raise(SIGUSR2);
  ::sigaction(SIGUSR2, &old, nullptr);
  ::sigaltstack(&before, nullptr);
  EXPECT_EQ(count(names(t), "recurse"), 11u);
}

TEST(StackHere, OnAStackOfAnotherLibrarysMaking) {
  // A context that glibc made: not the thread's stack, and not a task's.
  static trace t;
  static ucontext_t home, other;
  static char stack[256 * 1024];
  ::getcontext(&other);
  other.uc_stack.ss_sp = stack;
  other.uc_stack.ss_size = sizeof stack;
  other.uc_link = &home;
  ::makecontext(
      &other, [] { t = recurse(10); }, 0);
  ::swapcontext(&home, &other);
  EXPECT_EQ(count(names(t), "recurse"), 11u);
}

TEST(StackHere, KeepsTheLeafSideAndSaysSo) {
  const trace t = recurse(200);
  EXPECT_TRUE(t.truncated);
  EXPECT_GE(t.pcs.size(), 127u);
  EXPECT_NE(names(t).front().find("take"), std::string::npos);
  EXPECT_TRUE(recurse(10, 5).truncated);
}

TEST(StackHere, InALibraryThatCameAfterTheTables) {
  unwind_refresh();
  void* library = ::dlopen(WEFT_TEST_LATE_LIBRARY, RTLD_NOW);
  ASSERT_NE(library, nullptr) << ::dlerror();
  using callback = int (*)(void*);
  auto* call = reinterpret_cast<int (*)(callback, void*)>(::dlsym(library, "weft_late_call"));
  ASSERT_NE(call, nullptr);
  trace t;
  call(
      [](void* out) {
        *static_cast<trace*>(out) = recurse(10);
        return 0;
      },
      &t);
  EXPECT_EQ(count(names(t), "recurse"), 11u);
  EXPECT_GE(count(names(t), "main"), 1u) << "the walk went on through the library";
  ::dlclose(library);
}

}  // namespace
}  // namespace weft::prof
