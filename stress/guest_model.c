/* SPDX-License-Identifier: MIT */
/* The model's half that touches use, compiled to run in vCPUs: one judge for all. */
#define STRESS_IN_GUEST
#include "stress/model.c" /* NOLINT(bugprone-suspicious-include) */
