# SPDX-License-Identifier: MIT
fln_test(NAME cli_plan LABEL unit
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/cli_plan.c ${PROJECT_SOURCE_DIR}/measure/order.c)
