/* SPDX-License-Identifier: MIT */
/* Something is wrong: it is said, counted, and perhaps ends the run. */
#ifndef STRESS_COMPLAIN_H
#define STRESS_COMPLAIN_H

#include "stress/stress.h"

/* Puts back what was changed of the host or of this process, however the run ends. */
typedef void (*undo_fn)(struct stress *s);
void undo_at_end(undo_fn undo);
void undo_all(struct stress *s);

/* Nothing can be joined any more, or need be. */
_Noreturn void end_at_once(struct stress *s);

/*
 * Keep a message of the engine's, and print the last of them: with chaos most of what it says is
 * what was asked for, and what it says before something is wrong may explain that.
 */
void remember(const struct stress *s, const char *msg);
void tell_remembered(void);

/* Say what is wrong (the first few times) and count it; with --until-wrong end. */
void complain(struct stress *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
