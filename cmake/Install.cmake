# SPDX-License-Identifier: MIT
# What `cmake --install` puts where, for C compilers (pkg-config) and for CMake.
# The headers are installed by include/, the programs by their folders.

include(CMakePackageConfigHelpers)

set_target_properties(fln_static PROPERTIES OUTPUT_NAME faultlane)
install(TARGETS faultlane fln_static
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")

# Both files find the rest from where they lie themselves, so that a tree that was
# installed with another --prefix, or moved, still works.
set(FLN_PC_DIR "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH FLN_PC_TO_PREFIX "/${FLN_PC_DIR}" "/")
string(REGEX REPLACE "/$" "" FLN_PC_TO_PREFIX "${FLN_PC_TO_PREFIX}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/faultlane.pc.in"
  "${PROJECT_BINARY_DIR}/faultlane.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/faultlane.pc" DESTINATION "${FLN_PC_DIR}")

set(FLN_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/faultlane")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/faultlane-config.cmake.in"
  "${PROJECT_BINARY_DIR}/faultlane-config.cmake"
  INSTALL_DESTINATION "${FLN_PACKAGE_DIR}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/faultlane-config-version.cmake"
  VERSION "${PROJECT_VERSION}" COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/faultlane-config.cmake"
  "${PROJECT_BINARY_DIR}/faultlane-config-version.cmake"
  DESTINATION "${FLN_PACKAGE_DIR}")

foreach(page faultlane.1 faultlane-restore.1 faultlane-doctor.1 faultlane-stress.1)
  install(FILES "${PROJECT_SOURCE_DIR}/docs/man/${page}" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
endforeach()
if(TARGET faultlane-bench)
  install(FILES "${PROJECT_SOURCE_DIR}/docs/man/faultlane-bench.1" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
endif()
install(FILES "${PROJECT_SOURCE_DIR}/docs/man/faultlane.7" DESTINATION "${CMAKE_INSTALL_MANDIR}/man7")
