/* SPDX-License-Identifier: MIT */
/* Reports errors, counts them, and may end the run. */
#ifndef STRESS_COMPLAIN_H
#define STRESS_COMPLAIN_H

#include "stress/stress.h"

/* Restores settings of the host or of this process, however the run ends. */
typedef void (*undo_fn)(struct stress *s);
void undo_at_end(undo_fn undo);
void undo_all(struct stress *s);

/* Exit without joining threads, after all undo functions. */
_Noreturn void end_at_once(struct stress *s);

/* Seconds since the run began; main() may set its beginning again at the same time. */
double run_time_s(const struct stress *s);

/*
 * Keep the engine's last messages, and print them.  With chaos most messages are expected, but
 * the last ones before an error may explain it.
 */
void remember(const struct stress *s, const char *msg);
void tell_remembered(void);

/* Print an error (the first few of them) and count it; with --until-wrong end the run. */
void complain(struct stress *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
