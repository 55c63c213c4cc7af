# SPDX-License-Identifier: MIT
# What every target of the project shares: language, warnings, sanitizers, and
# the three functions that declare a component, a program and a test.

include(GNUInstallDirs)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(URCU REQUIRED IMPORTED_TARGET liburcu-memb)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

set(FAULTLANE_TEST_TIMEOUT_FACTOR 1 CACHE STRING
    "Multiplies the time limit of each test; for FAULTLANE_TEST_SCALE=long")

add_library(fln_flags INTERFACE)
target_compile_definitions(fln_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
  $<$<CONFIG:Debug>:FLN_DEBUG=1>)
target_compile_options(fln_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla -Wundef -Wformat=2
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
  $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  $<$<AND:$<C_COMPILER_ID:Clang>,$<COMPILE_LANGUAGE:C>>:-Wthread-safety>
  -fno-omit-frame-pointer)
if(FAULTLANE_WERROR)
  target_compile_options(fln_flags INTERFACE -Werror)
endif()
if(FAULTLANE_SANITIZE STREQUAL "address")
  target_compile_options(fln_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(fln_flags INTERFACE -fsanitize=address,undefined)
elseif(FAULTLANE_SANITIZE STREQUAL "thread")
  target_compile_options(fln_flags INTERFACE -fsanitize=thread)
  target_link_options(fln_flags INTERFACE -fsanitize=thread)
elseif(NOT FAULTLANE_SANITIZE STREQUAL "")
  message(FATAL_ERROR "FAULTLANE_SANITIZE is '${FAULTLANE_SANITIZE}': use address, thread, or nothing")
endif()
if(FAULTLANE_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "FAULTLANE_FUZZ needs clang: set CMAKE_C_COMPILER=clang, or use the preset fuzz")
  endif()
  target_compile_options(fln_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_include_directories(fln_flags INTERFACE
  "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_BINARY_DIR}/include")

# fln_component(NAME base SOURCES a.c b.c LIBS PkgConfig::URCU)
# One folder of the library, as an object library fln_<name>.
function(fln_component)
  cmake_parse_arguments(C "" "NAME" "SOURCES;LIBS" ${ARGN})
  add_library(fln_${C_NAME} OBJECT ${C_SOURCES})
  target_link_libraries(fln_${C_NAME} PUBLIC fln_flags Threads::Threads ${C_LIBS})
endfunction()

# fln_guest_code(touch.c) compiles sources of the current folder so that their functions can
# run in a vCPU of vcpu/: no sanitizers, no calls that the compiler makes up.
function(fln_guest_code)
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS
    "-O2;-ffreestanding;-fno-sanitize=all;-fno-stack-protector;-mgeneral-regs-only;-fno-tree-vectorize;$<$<C_COMPILER_ID:GNU>:-fno-tree-loop-distribute-patterns>")
endfunction()

# fln_program(NAME faultlane SOURCES main.c LIBS fln_static)
function(fln_program)
  cmake_parse_arguments(P "" "NAME" "SOURCES;LIBS" ${ARGN})
  add_executable(${P_NAME} ${P_SOURCES})
  target_link_libraries(${P_NAME} PRIVATE fln_flags ${P_LIBS} m)
endfunction()

# fln_test(NAME unit_mask LABEL unit SOURCES mask.c [LIBS fln_static] [TIMEOUT 240] [ARGS ...])
# A program that exits 0 (pass), 77 (skipped, with the reason on stdout) or else (failed).
# Its test name is <label>.<name>.  Links the internal static library and cmocka.
function(fln_test)
  cmake_parse_arguments(T "" "NAME;LABEL;TIMEOUT" "SOURCES;LIBS;ARGS" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 240)
  endif()
  if(FAULTLANE_SANITIZE)
    math(EXPR T_TIMEOUT "${T_TIMEOUT} * 4")
  endif()
  math(EXPR T_TIMEOUT "${T_TIMEOUT} * ${FAULTLANE_TEST_TIMEOUT_FACTOR}")
  add_executable(test_${T_LABEL}_${T_NAME} ${T_SOURCES})
  target_link_libraries(test_${T_LABEL}_${T_NAME} PRIVATE fln_flags fln_static ${T_LIBS} cmocka m)
  set_target_properties(test_${T_LABEL}_${T_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  add_test(NAME ${T_LABEL}.${T_NAME} COMMAND test_${T_LABEL}_${T_NAME} ${T_ARGS})
  set_tests_properties(${T_LABEL}.${T_NAME} PROPERTIES
    LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()
