// A cache whose documents live on the collected heap: the most recently used ones are held by
// references, all others only weakly. A document that has been dropped from the cache, but is still
// being sent to somebody, is found again instead of being loaded a second time; when the last
// reader has gone, the collector takes it, and nobody has counted references.
//
//   06_weak_cache [megabytes to keep, 64] [requests, 200000] [client tasks, 64]
//
// Every document is checked when it is read. The exit status is 1 if one was not what it should be.
#include <weft/gc/gc.h>
#include <weft/gc/weak.h>
#include <weft/weft.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <vector>

namespace {

namespace gc = weft::gc;

struct document {
  uint64_t key = 0;
  uint64_t size = 0;
  gc::ref<uint64_t> words;  // an array without references: the collector does not look inside
};

// One per document that was ever asked for.
struct entry {
  uint64_t key = 0;
  gc::ref<entry> same_bucket;
  gc::ref<entry> newer, older;  // in the list of those that are kept
  gc::ref<document> kept;
  gc::weak<document> seen;
};

uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

document* load(uint64_t key) {
  auto* d = gc::make<document>();
  d->key = key;
  d->size = 128 + mixed(key) % 4096;  // 1 KiB to 33 KiB
  auto* words = gc::make_array<uint64_t>(d->size);
  for (uint64_t i = 0; i < d->size; ++i) words[i] = mixed(key + i);
  d->words = words;
  return d;
}

bool intact(const document* d, uint64_t key) {
  if (d->key != key) return false;
  for (uint64_t i = 0; i < d->size; i += 61) {
    if (d->words.get()[i] != mixed(key + i)) return false;
  }
  return true;
}

class cache {
 public:
  explicit cache(size_t bytes) : buckets_(gc::make_array<gc::ref<entry>>(buckets)), room_(bytes) {}

  document* get(uint64_t key) {
    {
      std::lock_guard hold(mutex_);
      entry* e = find(key);
      if (document* d = lookup(e)) return d;
    }
    document* d = load(key);  // without the lock: others are served meanwhile
    std::lock_guard hold(mutex_);
    entry* e = find(key);
    if (document* others = lookup(e)) return others;
    ++loads_;
    e->seen = d;
    keep(e, d);
    return d;
  }

  struct figures {
    uint64_t hits, revived, loads, bytes;
  };
  figures count() {
    std::lock_guard hold(mutex_);
    return {hits_, revived_, loads_, used_};
  }

 private:
  static constexpr size_t buckets = 1 << 16;

  entry* find(uint64_t key) {
    gc::ref<entry>& first = buckets_.get()[mixed(key) % buckets];
    for (entry* e = first; e != nullptr; e = e->same_bucket) {
      if (e->key == key) return e;
    }
    auto* e = gc::make<entry>();
    e->key = key;
    e->same_bucket = first;
    first = e;
    return e;
  }

  document* lookup(entry* e) {
    if (document* d = e->kept) {
      ++hits_;
      unlink(e);
      link(e);
      return d;
    }
    document* d = e->seen.lock();
    if (d == nullptr) return nullptr;
    ++revived_;
    keep(e, d);
    return d;
  }

  void keep(entry* e, document* d) {
    e->kept = d;
    link(e);
    used_ += d->size * sizeof(uint64_t);
    while (used_ > room_ && oldest_ != e) {
      entry* out = oldest_;
      unlink(out);
      used_ -= out->kept->size * sizeof(uint64_t);
      out->kept = nullptr;
    }
  }

  void link(entry* e) {
    e->older = newest_;
    e->newer = nullptr;
    if (newest_ != nullptr) newest_->newer = e;
    newest_ = e;
    if (oldest_ == nullptr) oldest_ = e;
  }
  void unlink(entry* e) {
    (e->newer != nullptr ? e->newer->older : newest_) = e->older;
    (e->older != nullptr ? e->older->newer : oldest_) = e->newer;
    e->newer = e->older = nullptr;
  }

  weft::mutex mutex_;
  // This object lies on the main task's stack, and other tasks write to it: so these are refs.
  gc::ref<gc::ref<entry>> buckets_;
  gc::ref<entry> newest_, oldest_;
  const size_t room_;
  size_t used_ = 0;
  uint64_t hits_ = 0, revived_ = 0, loads_ = 0;
};

uint64_t argument(int argc, char** argv, int i, uint64_t otherwise) {
  if (i >= argc) return otherwise;
  char* end = nullptr;
  const uint64_t n = std::strtoull(argv[i], &end, 10);
  if (*end != 0 || n == 0) {
    std::fprintf(stderr, "usage: 06_weak_cache [megabytes] [requests] [clients]; not \"%s\"\n",
                 argv[i]);
    std::exit(2);
  }
  return n;
}

// A number of 0..n-1; small ones are more likely.
uint64_t popular(uint64_t& random, uint64_t n) {
  random = random * 6364136223846793005u + 1442695040888963407u;
  const double u = static_cast<double>(random >> 11) * 0x1p-53;
  return static_cast<uint64_t>(static_cast<double>(n) * u * u * u);
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t bytes = argument(argc, argv, 1, 64) << 20;
  const uint64_t requests = argument(argc, argv, 2, 200'000);
  const uint64_t clients = argument(argc, argv, 3, 64);
  std::atomic<uint64_t> wrong{0};
  weft::run([&] {
    cache all(bytes);
    const uint64_t documents = bytes / 17'000 * 3;  // three times what fits
    std::vector<weft::join_handle<void>> tasks;
    for (uint64_t c = 0; c < clients; ++c) {
      tasks.push_back(weft::spawn([&, c] {
        uint64_t random = mixed(c + 1);
        for (uint64_t i = c; i < requests; i += clients) {
          const uint64_t key = popular(random, documents);
          const document* d = all.get(key);
          weft::this_task::yield();  // as if it were sent; it may be dropped from the cache now
          if (!intact(d, key)) wrong.fetch_add(1);
        }
      }));
    }
    for (auto& t : tasks) t.join();
    const cache::figures f = all.count();
    const gc::heap_stats s = gc::stats();
    std::printf("%llu requests, %llu hits, %llu revived, %llu loaded; %llu MB kept\n",
                static_cast<unsigned long long>(requests), static_cast<unsigned long long>(f.hits),
                static_cast<unsigned long long>(f.revived),
                static_cast<unsigned long long>(f.loads),
                static_cast<unsigned long long>(f.bytes >> 20));
    std::printf("%llu cycles, %.2f ms in all pauses, %llu MB allocated, %llu documents wrong\n",
                static_cast<unsigned long long>(s.cycles),
                static_cast<double>(s.pause_total_ns) / 1e6,
                static_cast<unsigned long long>(s.allocated_bytes >> 20),
                static_cast<unsigned long long>(wrong.load()));
  });
  return wrong == 0 ? 0 : 1;
}
