// A shared library that the unwinder and symbolizer tests load after their tables exist: its frame
// stands between the test and the callback.
extern "C" int weft_late_call(int (*callback)(void*), void* argument);

extern "C" int weft_late_call(int (*callback)(void*), void* argument) {
  volatile int result = callback(argument);
  return result + 1;
}
