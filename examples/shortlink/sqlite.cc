#include "examples/shortlink/sqlite.h"

#include <sqlite3.h>

namespace shortlink {

sqlite_error::sqlite_error(const std::string& doing, sqlite3* db)
    : std::runtime_error(doing + ": " + sqlite3_errmsg(db)), code_(sqlite3_extended_errcode(db)) {}

sqlite_connection::sqlite_connection(const std::string& path) {
  constexpr int mode = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(path.c_str(), &db_, mode, nullptr) != SQLITE_OK) {
    sqlite_error error("cannot open database " + path, db_);
    sqlite3_close(db_);
    throw error;
  }
  sqlite3_busy_timeout(db_, 5000);
  sqlite3_extended_result_codes(db_, 1);
}

sqlite_connection::~sqlite_connection() { sqlite3_close(db_); }

void sqlite_connection::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) throw sqlite_error(sql, db_);
}

int sqlite_connection::changes() const noexcept { return sqlite3_changes(db_); }

sqlite_statement::sqlite_statement(sqlite_connection& db, const char* sql) {
  if (sqlite3_prepare_v3(db.handle(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement_, nullptr) !=
      SQLITE_OK) {
    throw sqlite_error(sql, db.handle());
  }
}

sqlite_statement::~sqlite_statement() { sqlite3_finalize(statement_); }

void sqlite_statement::bind(int i, int64_t value) { sqlite3_bind_int64(statement_, i, value); }

void sqlite_statement::bind(int i, std::string_view value) {
  // The null destructor means "not copied": the caller keeps the text alive during the use.
  sqlite3_bind_text(statement_, i, value.data(), static_cast<int>(value.size()), nullptr);
}

sqlite_statement::use::~use() { sqlite3_reset(s_.statement_); }

bool sqlite_statement::use::step() {
  switch (sqlite3_step(s_.statement_)) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      throw sqlite_error(sqlite3_sql(s_.statement_), sqlite3_db_handle(s_.statement_));
  }
}

int64_t sqlite_statement::use::integer(int column) const {
  return sqlite3_column_int64(s_.statement_, column);
}

std::string sqlite_statement::use::text(int column) const {
  const unsigned char* bytes = sqlite3_column_text(s_.statement_, column);
  if (bytes == nullptr) return {};
  auto length = static_cast<size_t>(sqlite3_column_bytes(s_.statement_, column));
  return std::string(reinterpret_cast<const char*>(bytes), length);
}

bool sqlite_statement::use::is_null(int column) const {
  return sqlite3_column_type(s_.statement_, column) == SQLITE_NULL;
}

}  // namespace shortlink
