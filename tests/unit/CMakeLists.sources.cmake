# SPDX-License-Identifier: MIT
fln_test(NAME source LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/source.c)
