# SPDX-License-Identifier: MIT
fln_test(NAME baselines_handler LABEL integration
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/baselines_handler.c LIBS fln_baselines)

set(FLN_CLI_TIMEOUT 240)
if(FAULTLANE_SANITIZE)
  set(FLN_CLI_TIMEOUT 480)
endif()
foreach(test cli_restore cli_phases)
  add_test(NAME integration.${test}
    COMMAND ${CMAKE_CURRENT_LIST_DIR}/${test}.sh $<TARGET_FILE:faultlane_cli>)
  set_tests_properties(integration.${test} PROPERTIES
    LABELS integration TIMEOUT ${FLN_CLI_TIMEOUT} SKIP_RETURN_CODE 77)
endforeach()

add_test(NAME integration.programs
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/programs.sh $<TARGET_FILE:faultlane_cli>
    $<TARGET_FILE:faultlane-stress> $<$<TARGET_EXISTS:faultlane-bench>:$<TARGET_FILE:faultlane-bench>>)
set_tests_properties(integration.programs PROPERTIES
  LABELS integration TIMEOUT ${FLN_CLI_TIMEOUT} SKIP_RETURN_CODE 77)
