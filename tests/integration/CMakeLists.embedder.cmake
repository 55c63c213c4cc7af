# SPDX-License-Identifier: MIT
# The embedder's hooks: threads, events, what is done about failures.
foreach(name thread_hooks failures stats_text fork_rule)
  fln_test(NAME ${name} LABEL integration SOURCES ${CMAKE_CURRENT_LIST_DIR}/${name}.c
    LIBS fln_harness TIMEOUT 240)
endforeach()
