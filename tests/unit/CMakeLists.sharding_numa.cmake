# SPDX-License-Identifier: MIT
# Unit tests of sharding/ and numa/.
fln_test(NAME stripes LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/stripes.c)
fln_test(NAME sysfs LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/sysfs.c)
fln_test(NAME topology LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/topology.c LIBS fln_jemalloc)
fln_test(NAME plan LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/plan.c
  ARGS ${CMAKE_CURRENT_LIST_DIR}/machines)
