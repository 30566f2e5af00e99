#pragma once
// The little of SQLite's C interface that the store needs, with destructors and exceptions.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace shortlink {

// A failed SQLite call; what() is SQLite's message, code() its extended result code.
class sqlite_error : public std::runtime_error {
 public:
  sqlite_error(const std::string& doing, sqlite3* db);
  int code() const noexcept { return code_; }

 private:
  int code_;
};

// One connection. Used by one task at a time: SQLite's own locking is off.
class sqlite_connection {
 public:
  explicit sqlite_connection(const std::string& path);
  ~sqlite_connection();
  sqlite_connection(const sqlite_connection&) = delete;

  // Runs statements that return nothing.
  void execute(const char* sql);
  // Rows changed by the last statement.
  int changes() const noexcept;

  sqlite3* handle() const noexcept { return db_; }

 private:
  sqlite3* db_ = nullptr;
};

// A prepared statement, reset by the destructor of each use.
//
//   auto use = by_code.start(code);
//   if (use.step()) read(use.integer(0));
class sqlite_statement {
 public:
  sqlite_statement(sqlite_connection& db, const char* sql);
  ~sqlite_statement();
  sqlite_statement(const sqlite_statement&) = delete;

  class use {
   public:
    explicit use(sqlite_statement& s) : s_(s) {}
    ~use();
    use(const use&) = delete;
    // True: there is a row to read. False: done.
    bool step();
    int64_t integer(int column) const;
    std::string text(int column) const;
    bool is_null(int column) const;

   private:
    sqlite_statement& s_;
  };

  // Binds the arguments to the statement's parameters in order. They must live as long as the use.
  template <class... Args>
  use start(const Args&... args) {
    int i = 0;
    (bind(++i, args), ...);
    return use(*this);
  }

 private:
  void bind(int i, int64_t value);
  void bind(int i, std::string_view value);

  sqlite3_stmt* statement_ = nullptr;
};

}  // namespace shortlink
