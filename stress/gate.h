/* SPDX-License-Identifier: MIT */
/* The gate, and whose turn it is to close it. */
#ifndef STRESS_GATE_H
#define STRESS_GATE_H

#include "stress/stress.h"

void gate_init(struct stress *s);
/* Open and close the gate: after closing and waiting nobody is inside a touch. */
void gate_close_begin(struct stress *s);
void gate_wait_outside(struct stress *s);
void gate_open(struct stress *s);
/* Those of a crowd pass, or no more. */
void gate_let_crowd(struct stress *s, bool in);
/* Sleep while @t may not pass, and until the run is over. */
void gate_wait(struct toucher *t);
/* Only the step that has its turn closes the gate. */
void turn_take(struct stress *s);
void turn_give(struct stress *s);

#endif
