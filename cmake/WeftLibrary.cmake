# weft_library(name SOURCES … PUBLIC_HEADERS … DEPS … PRIVATE_DEPS …)
# One layer of weft as library weft_<name>, alias and export name weft::<name>. Public headers
# live under <folder>/include; private ones are included from the source root ("scheduler/task.h").
# Warnings and sanitizers stay PRIVATE: a user's flags are the user's.
# DIRECT_CALLS: functions of one file call, and inline, each other. Otherwise gcc leaves to the linker
# which function of that name it is, as position-independent code could have one of it replaced.

add_library(weft_flags INTERFACE)
target_compile_options(weft_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual
  -Wnull-dereference -Wimplicit-fallthrough -Wundef -Wvla
  $<$<BOOL:${WEFT_WERROR}>:-Werror>
  # A frame larger than a page must touch each page, or it could jump over a stack's guard.
  -fstack-clash-protection
  -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 reports false positives from inlined std::string and std::optional code.
  target_compile_options(weft_flags INTERFACE -Wno-null-dereference -Wno-maybe-uninitialized
    -Wno-stringop-overflow -Wno-restrict)
endif()
target_include_directories(weft_flags INTERFACE ${PROJECT_SOURCE_DIR})

# A sanitizer is a property of the whole process, so it is the one flag set that is not private.
add_library(weft_sanitize INTERFACE)
if(WEFT_SANITIZE STREQUAL "address")
  target_compile_options(weft_sanitize INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  target_link_options(weft_sanitize INTERFACE -fsanitize=address,undefined)
elseif(WEFT_SANITIZE STREQUAL "thread")
  # gcc warns that TSan does not model atomic_thread_fence; the code under test uses none whose
  # effect a report could depend on without an atomic access beside it.
  target_compile_options(weft_sanitize INTERFACE -fsanitize=thread
    $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  target_link_options(weft_sanitize INTERFACE -fsanitize=thread)
elseif(WEFT_SANITIZE)
  message(FATAL_ERROR "WEFT_SANITIZE must be empty, address or thread, not '${WEFT_SANITIZE}'")
endif()
install(TARGETS weft_sanitize EXPORT weftTargets)

function(weft_library name)
  cmake_parse_arguments(A "DIRECT_CALLS" "" "SOURCES;PUBLIC_HEADERS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(weft_${name} ${A_SOURCES})
  add_library(weft::${name} ALIAS weft_${name})
  target_sources(weft_${name} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${A_PUBLIC_HEADERS})
  target_compile_features(weft_${name} PUBLIC cxx_std_20)
  target_link_libraries(weft_${name} PUBLIC ${A_DEPS} weft_sanitize
    PRIVATE $<BUILD_INTERFACE:weft_flags> ${A_PRIVATE_DEPS})
  if(A_DIRECT_CALLS AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(weft_${name} PRIVATE $<$<CONFIG:Release>:-fno-semantic-interposition>)
  endif()
  set_target_properties(weft_${name} PROPERTIES EXPORT_NAME ${name}
    CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON VERIFY_INTERFACE_HEADER_SETS ON)
  install(TARGETS weft_${name} EXPORT weftTargets FILE_SET HEADERS)
endfunction()
