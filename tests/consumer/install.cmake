# Installs the build tree BUILD into an empty PREFIX: what an earlier version left there must not help.
file(REMOVE_RECURSE ${PREFIX})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX}
  COMMAND_ERROR_IS_FATAL ANY)
if(NOT EXISTS ${PREFIX}/share/weft/gdb/weft.py)
  message(FATAL_ERROR "the gdb commands were not installed")
endif()
