/* SPDX-License-Identifier: MIT */
/*
 * What the integration and stress tests share.
 *
 * They use the public headers, as an embedder does, and threads as vCPUs.  Every wait has
 * an end and a name.
 */
#ifndef FLN_TESTS_HARNESS_H
#define FLN_TESTS_HARNESS_H

#include "tests/integration/harness/bed.h"
#include "tests/integration/harness/holdings.h"
#include "tests/integration/harness/host.h"
#include "tests/integration/harness/log.h"
#include "tests/integration/harness/maker.h"
#include "tests/integration/harness/peer.h"
#include "tests/integration/harness/threads.h"
#include "tests/integration/harness/touch.h"
#include "tests/integration/harness/verdict.h"

#include <errno.h>
#include <faultlane/faultlane.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#endif
