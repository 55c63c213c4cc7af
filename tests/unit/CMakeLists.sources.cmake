# SPDX-License-Identifier: MIT
fln_test(NAME source LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/source.c)
fln_test(NAME free_memory LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/free_memory.c)
