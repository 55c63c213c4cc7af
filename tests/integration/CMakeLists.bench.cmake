# SPDX-License-Identifier: MIT
if(TARGET faultlane-bench)
  add_test(NAME integration.bench
    COMMAND ${CMAKE_CURRENT_LIST_DIR}/bench.sh $<TARGET_FILE:faultlane-bench>)
  set(FLN_BENCH_TIMEOUT 240)
  if(FAULTLANE_SANITIZE)
    set(FLN_BENCH_TIMEOUT 480)
  endif()
  set_tests_properties(integration.bench PROPERTIES
    LABELS integration TIMEOUT ${FLN_BENCH_TIMEOUT} SKIP_RETURN_CODE 77)
endif()
