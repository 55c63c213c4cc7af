# SPDX-License-Identifier: MIT
fln_test(NAME measure_cgroup LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/measure_cgroup.c LIBS fln_measure)
fln_test(NAME measure_order LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/measure_order.c LIBS fln_measure)
fln_test(NAME measure_crowd LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/measure_crowd.c LIBS fln_measure)
