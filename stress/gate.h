/* SPDX-License-Identifier: MIT */
/* The gate that stops touches, and the turn of the step that may close it. */
#ifndef STRESS_GATE_H
#define STRESS_GATE_H

#include "stress/stress.h"

void gate_init(struct stress *s);
/*
 * Close the gate, wait for the touches that have begun, and open it.  From the end of
 * gate_wait_outside() until the gate opens or lets a crowd pass, no thread is inside a touch.
 */
void gate_close_begin(struct stress *s);
void gate_wait_outside(struct stress *s);
void gate_open(struct stress *s);
/* @in: from now on the closed gate lets the threads of a crowd pass; false: no longer. */
void gate_let_crowd(struct stress *s, bool in);
/* Sleep until @t may pass or the run is over. */
void gate_wait(struct toucher *t);
/* Only the step that has the turn may close the gate. */
void turn_take(struct stress *s);
void turn_give(struct stress *s);

#endif
