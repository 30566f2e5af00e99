# FindLibbacktrace: the libbacktrace that gcc carries in its own directory (Debian: libgcc-*-dev).
#
# Result: target Libbacktrace::Libbacktrace and Libbacktrace_FOUND. Other compilers do not search
# gcc's directory, so gcc itself is asked where the files are. The header is copied to a directory of
# its own, because gcc's would also bring gcc's intrinsics and stddef.h in front of clang's.
# Set Libbacktrace_LIBRARY and Libbacktrace_HEADER to use another build of it.

if(NOT Libbacktrace_LIBRARY OR NOT Libbacktrace_HEADER)
  set(_asked "${CMAKE_CXX_COMPILER}")
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    find_program(Libbacktrace_GCC NAMES gcc g++ gcc-14 gcc-13 gcc-12 gcc-11)
    mark_as_advanced(Libbacktrace_GCC)
    set(_asked "${Libbacktrace_GCC}")
  endif()
  if(_asked)
    execute_process(COMMAND ${_asked} -print-file-name=libbacktrace.a
      OUTPUT_VARIABLE _library OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    execute_process(COMMAND ${_asked} -print-file-name=include/backtrace.h
      OUTPUT_VARIABLE _header OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    # gcc answers with the bare name when it has no such file.
    if(IS_ABSOLUTE "${_library}" AND EXISTS "${_library}")
      set(Libbacktrace_LIBRARY "${_library}" CACHE FILEPATH "libbacktrace archive")
    endif()
    if(IS_ABSOLUTE "${_header}" AND EXISTS "${_header}")
      set(Libbacktrace_HEADER "${_header}" CACHE FILEPATH "backtrace.h")
    endif()
  endif()
  mark_as_advanced(Libbacktrace_LIBRARY Libbacktrace_HEADER)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libbacktrace
  REQUIRED_VARS Libbacktrace_LIBRARY Libbacktrace_HEADER
  REASON_FAILURE_MESSAGE "gcc does not carry it here: install libgcc-<version>-dev")

if(Libbacktrace_FOUND AND NOT TARGET Libbacktrace::Libbacktrace)
  set(_include_dir "${CMAKE_CURRENT_BINARY_DIR}/libbacktrace-include")
  configure_file("${Libbacktrace_HEADER}" "${_include_dir}/backtrace.h" COPYONLY)
  add_library(Libbacktrace::Libbacktrace STATIC IMPORTED)
  set_target_properties(Libbacktrace::Libbacktrace PROPERTIES
    IMPORTED_LOCATION "${Libbacktrace_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${_include_dir}")
endif()
