# SPDX-License-Identifier: MIT
# Base helpers, images and fillers, and the engine on a fake kernel (tests/support).
set(FLN_FAKE ${PROJECT_SOURCE_DIR}/tests/support/fake_uffd.c)
set(FLN_RIG ${FLN_FAKE} ${PROJECT_SOURCE_DIR}/tests/support/rig.c)
set(FLN_DEATH ${PROJECT_SOURCE_DIR}/tests/support/death.c)

fln_test(NAME page_mask LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/page_mask.c)
fln_test(NAME window LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/window.c)
fln_test(NAME histogram LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/histogram.c)
fln_test(NAME blockmap LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/blockmap.c)
fln_test(NAME base LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/base.c ${FLN_DEATH})
fln_test(NAME region_map LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/region_map.c ${FLN_DEATH})
fln_test(NAME uffd LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/uffd.c ${FLN_FAKE})
fln_test(NAME filler LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/filler.c)
fln_test(NAME image LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/image.c ${FLN_RIG} ${FLN_DEATH})
fln_test(NAME install LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/install.c ${FLN_RIG})
fln_test(NAME stats LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/stats.c)
fln_test(NAME events LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/events.c ${FLN_RIG})
fln_test(NAME serve LABEL unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/serve.c ${FLN_RIG})
