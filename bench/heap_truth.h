#pragma once
// The row gc_inuse: the heap profile of the collected heap against a set that is known.

namespace bench {

// Makes a set of n MiB sixteen times and lets go of it again; prints how far from the truth the
// profile's bytes in use were, on average and at worst, at the default rate. In a task.
int measure_heap_truth(const char* row, long workers, long n);

}  // namespace bench
