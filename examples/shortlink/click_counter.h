#pragma once
// click_counter: counts clicks without making a redirect wait for the disk.
//
//   handlers --clicks--> collect() --batches--> write() --> store
//
// collect() sums clicks up per link and passes a batch on when it holds `batch_size` clicks or its
// first click is `batch_age` old; write() stores one batch per transaction. Both channels are
// bounded: if the disk falls behind, the batches fill, then the clicks, and then count() parks its
// caller, so memory stays bounded and no click is dropped. A batch that the database refuses is
// reported, counted and given up.
#include <weft/chan.h>
#include <weft/task.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "examples/shortlink/click_feed.h"
#include "examples/shortlink/store.h"

namespace shortlink {

class click_counter {
 public:
  static constexpr size_t batch_size = 20'000;
  static constexpr std::chrono::milliseconds batch_age{200};

  click_counter(store& db, click_feed& feed);
  // stop() must have been called.
  ~click_counter() = default;

  // Counts one click, now. Parks while the pipeline is full. Any task; not after stop().
  void count(int64_t link_id);

  // Stores what is under way, then ends. Parks until that is done. Once.
  void stop();

  struct statistics {
    uint64_t received = 0, stored = 0, batches = 0, failed_batches = 0;
    size_t queued = 0;
  };
  statistics stats() const;

 private:
  using batch = std::unique_ptr<std::vector<click_sum>>;

  void collect();
  void write();

  store& db_;
  click_feed& feed_;
  weft::chan<click> clicks_{4096};
  weft::chan<batch> batches_{1};
  std::atomic<uint64_t> received_{0}, stored_{0}, batches_stored_{0}, batches_failed_{0};
  weft::join_handle<void> collector_, writer_;
};

}  // namespace shortlink
