#include "examples/shortlink/store.h"

#include <sqlite3.h>
#include <weft/blocking.h>

#include <chrono>

#include "examples/shortlink/sqlite.h"

namespace shortlink {
namespace {

constexpr int reader_count = 4;

constexpr const char* schema = R"sql(
  CREATE TABLE IF NOT EXISTS links (
    id         INTEGER PRIMARY KEY,
    code       TEXT NOT NULL UNIQUE,
    url        TEXT NOT NULL,
    created    INTEGER NOT NULL,
    clicks     INTEGER NOT NULL DEFAULT 0,
    last_click INTEGER
  )
)sql";

int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

struct store::connection {
  explicit connection(const std::string& path) : db(path), set_up(db) {}

  sqlite_connection db;
  struct set_up_database {
    explicit set_up_database(sqlite_connection& db) {
      // With a write-ahead log readers and the writer do not wait for each other, and "normal"
      // syncs the disk at checkpoints only: a power cut may lose the last links, never the file.
      db.execute("PRAGMA journal_mode = WAL");
      db.execute("PRAGMA synchronous = NORMAL");
      db.execute(schema);
    }
  } set_up;
  sqlite_statement insert{db,
                          "INSERT INTO links (code, url, created) VALUES (?, ?, ?) RETURNING id"};
  sqlite_statement by_code{db,
                           "SELECT id, url, created, clicks, last_click FROM links WHERE code = ?"};
  sqlite_statement erase{db, "DELETE FROM links WHERE code = ?"};
  sqlite_statement add_clicks{db,
                              "UPDATE links SET clicks = clicks + ?, "
                              "last_click = max(coalesce(last_click, 0), ?) WHERE id = ?"};
  sqlite_statement count{db, "SELECT count(*) FROM links"};
};

// A connection taken out of its pool, and put back.
class store::lease {
 public:
  explicit lease(const pool& p) : pool_(p), connection_(*p.recv()) {}
  ~lease() { pool_.send(connection_); }
  lease(const lease&) = delete;
  connection* operator->() const { return connection_; }

 private:
  pool pool_;
  connection* connection_;
};

store::store(const std::string& path) {
  // Each connection to ":memory:" is a database of its own, so there everybody shares the writer.
  int readers = path == ":memory:" ? 0 : reader_count;
  weft::blocking([&] {
    for (int i = 0; i < readers + 1; ++i)
      connections_.push_back(std::make_unique<connection>(path));
    auto use = connections_[0]->count.start();
    use.step();
    link_count_ = use.integer(0);
  });
  writer_ = pool(1);
  writer_.send(connections_[0].get());
  readers_ = readers == 0 ? writer_ : pool(static_cast<size_t>(readers));
  for (size_t i = 1; i < connections_.size(); ++i) readers_.send(connections_[i].get());
}

store::~store() {
  // The last connection to close moves the log into the database file.
  weft::blocking([&] { connections_.clear(); });
}

std::optional<link> store::create(std::string_view code, std::string_view url) {
  link created{0, std::string(code), std::string(url), now_ms(), 0, std::nullopt};
  lease writer(writer_);
  bool taken = weft::blocking([&] {
    try {
      auto use = writer->insert.start(code, url, created.created_ms);
      use.step();
      created.id = use.integer(0);
      use.step();  // to the end: that is where an automatic transaction commits
      return false;
    } catch (const sqlite_error& error) {
      if (error.code() == SQLITE_CONSTRAINT_UNIQUE) return true;
      throw;
    }
  });
  if (taken) return std::nullopt;
  link_count_.fetch_add(1, std::memory_order_relaxed);
  return created;
}

std::optional<link> store::find(std::string_view code) {
  lease reader(readers_);
  return weft::blocking([&]() -> std::optional<link> {
    auto use = reader->by_code.start(code);
    if (!use.step()) return std::nullopt;
    link found{use.integer(0), std::string(code), use.text(1),
               use.integer(2), use.integer(3),    std::nullopt};
    if (!use.is_null(4)) found.last_click_ms = use.integer(4);
    return found;
  });
}

bool store::remove(std::string_view code) {
  lease writer(writer_);
  bool removed = weft::blocking([&] {
    auto use = writer->erase.start(code);
    use.step();
    return writer->db.changes() > 0;
  });
  if (removed) link_count_.fetch_sub(1, std::memory_order_relaxed);
  return removed;
}

void store::add_clicks(std::span<const click_sum> sums) {
  lease writer(writer_);
  weft::blocking([&] {
    writer->db.execute("BEGIN IMMEDIATE");
    try {
      for (const click_sum& sum : sums) {
        auto use = writer->add_clicks.start(sum.clicks, sum.last_ms, sum.link_id);
        use.step();
      }
      writer->db.execute("COMMIT");
    } catch (...) {
      sqlite3_exec(writer->db.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
      throw;
    }
  });
}

}  // namespace shortlink
