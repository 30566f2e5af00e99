// Boost.JSON, compiled here once: the header-only form needs no library to link.
#include <boost/json/src.hpp>
