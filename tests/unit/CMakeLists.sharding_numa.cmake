# SPDX-License-Identifier: MIT
# Unit tests of sharding/ and numa/.
fln_test(NAME stripes LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/stripes.c)
