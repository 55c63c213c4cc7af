/* SPDX-License-Identifier: MIT */
/*
 * What the process does whose memory another one serves: registers it, and hands its
 * userfaultfd over.
 */
#ifndef FLN_BASELINES_HANDOVER_H
#define FLN_BASELINES_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Register anonymous memory, whose missing pages are to be copied.  Return: the userfaultfd; or
 * a negative errno, and fln_last_error() has the sentence.
 */
int fln_handover_register(void *addr, uint64_t len_bytes, bool user_mode_only);

#endif
