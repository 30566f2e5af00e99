# weft_add_proto(target FILE.proto…): compiles proto files, given relative to the source root, into
# `target`; there `#include "profiler/proto/profile.pb.h"` works. weft_use_proto(target) gives another
# target the headers only; link it with the first one, which also orders the builds. Generated code is
# nobody's to fix: it is compiled without warnings and its headers count as system headers.
#
# The command is spelled out because CMake 3.25's protobuf_generate() derives output paths from the
# directory that calls it and then disagrees with protoc about them.
find_package(Protobuf 3.12 REQUIRED GLOBAL)

function(weft_use_proto target)
  target_include_directories(${target} SYSTEM PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()

function(weft_add_proto target)
  set(out ${PROJECT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out})
  foreach(proto ${ARGN})
    string(REGEX REPLACE "\\.proto$" "" stem ${out}/${proto})
    add_custom_command(
      OUTPUT ${stem}.pb.cc ${stem}.pb.h
      COMMAND protobuf::protoc --cpp_out=${out} -I ${PROJECT_SOURCE_DIR}
              ${PROJECT_SOURCE_DIR}/${proto}
      DEPENDS ${PROJECT_SOURCE_DIR}/${proto} protobuf::protoc
      COMMENT "protoc ${proto}"
      VERBATIM)
    set_source_files_properties(${stem}.pb.cc PROPERTIES COMPILE_OPTIONS -w)
    target_sources(${target} PRIVATE ${stem}.pb.cc ${stem}.pb.h)
  endforeach()
  weft_use_proto(${target})
endfunction()
