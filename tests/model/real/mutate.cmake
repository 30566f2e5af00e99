# Copies FROM to TO with the one place that reads OLD changed to NEW, both set by MUTATION.
include(${MUTATION})
file(READ ${FROM} text)
string(FIND "${text}" "${OLD}" first)
string(FIND "${text}" "${OLD}" last REVERSE)
if(first EQUAL -1 OR NOT first EQUAL last)
  message(FATAL_ERROR "${FROM} does not hold exactly one\n  ${OLD}\n"
    "The mutants in tests/model/real/CMakeLists.txt must follow the code.")
endif()
string(REPLACE "${OLD}" "${NEW}" text "${text}")
file(WRITE ${TO} "${text}")
