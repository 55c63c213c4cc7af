/* SPDX-License-Identifier: MIT */
/* The gate that stops touches, and the turn of the step that may close it. */
#ifndef STRESS_GATE_H
#define STRESS_GATE_H

#include "stress/stress.h"

void gate_init(struct stress *s);
/*
 * Close the gate, wait for the threads inside, and open it.  After gate_wait_outside() no thread
 * is inside a touch.
 */
void gate_close_begin(struct stress *s);
void gate_wait_outside(struct stress *s);
void gate_open(struct stress *s);
/* Let the threads of a crowd pass the closed gate, or not any more. */
void gate_let_crowd(struct stress *s, bool in);
/* Sleep while @t may not pass, and until the run is over. */
void gate_wait(struct toucher *t);
/* Only the step that has the turn may close the gate. */
void turn_take(struct stress *s);
void turn_give(struct stress *s);

#endif
