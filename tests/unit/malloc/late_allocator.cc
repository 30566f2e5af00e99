// A library that is loaded while the tests run, and allocates.
#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

static std::vector<int>* g_made_while_loading = new std::vector<int>(100'000);

extern "C" {
void* late_new(size_t size) { return operator new(size); }
void late_delete(void* p) { operator delete(p); }
size_t late_made_while_loading() { return g_made_while_loading->size(); }
}
