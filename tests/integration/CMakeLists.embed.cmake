# SPDX-License-Identifier: MIT
# What an embedder relies on besides faults: his handlers, allocator, children, filters.
fln_test(NAME seccomp LABEL integration
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/seccomp.c LIBS fln_harness TIMEOUT 240)

# A program with a malloc of its own.
set(FLN_INTERPOSE ${PROJECT_SOURCE_DIR}/tests/support/interpose.c)
fln_test(NAME vmm_like LABEL integration
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmm_like.c ${FLN_INTERPOSE} LIBS fln_harness TIMEOUT 240)

fln_test(NAME vmm_sigbus LABEL integration
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmm_sigbus.c ${FLN_INTERPOSE} LIBS fln_harness TIMEOUT 240)

# One that loads the library late, as plug-ins are, and links nothing of it.
add_executable(test_integration_plugin ${CMAKE_CURRENT_LIST_DIR}/plugin.c ${FLN_INTERPOSE})
target_link_libraries(test_integration_plugin PRIVATE fln_flags Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(test_integration_plugin PROPERTIES
  RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
add_test(NAME integration.plugin COMMAND test_integration_plugin $<TARGET_FILE:faultlane>)

add_test(NAME integration.embed COMMAND ${CMAKE_CURRENT_LIST_DIR}/embed.sh
  $<TARGET_FILE:example_embed> $<TARGET_FILE:fln-mkimage>)
set_tests_properties(integration.plugin integration.embed PROPERTIES
  LABELS integration TIMEOUT 240 SKIP_RETURN_CODE 77)
