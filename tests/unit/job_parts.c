/* SPDX-License-Identifier: MIT */
/* The lists of a worker's parts of jobs, and of their blocks, against a plain model. */
#include "engine/job_parts.h"

#include "engine/state/worker.h"
#include "sources/changed.h"
#include "tests/support/cm.h"
#include "tests/support/rng.h"

#include <stdbool.h>

#define NR 12u
#define NR_SETS 4u
#define NO_SET UINT32_MAX
#define GONE FLN_JOB_NEEDS_NR

static struct fln_worker w;
static struct fln_job_block *heads[FLN_NR_IMAGE_SETS];
static struct fln_job_part parts[NR];

/* The model: what each part needs, and the sets of its blocks. */
static enum fln_job_need needs[NR];
static uint32_t nr_blocks[NR], sets[NR][FLN_JOB_BLOCKS];

static uint32_t index_of(const struct fln_job_part *part)
{
	return (uint32_t)(part - parts);
}

static void check_needs(void)
{
	uint32_t nr[FLN_JOB_NEEDS_NR] = { 0 }, nr_all = 0, nr_there = 0;

	for (uint32_t i = 0; i < FLN_JOB_NEEDS_NR; i++) {
		struct fln_job_part *const *last = &w.parts_that[i].first;

		for (struct fln_job_part *p = w.parts_that[i].first; p; p = p->next) {
			assert_int_equal(needs[index_of(p)], i);
			nr[i]++;
			last = &p->next;
		}
		assert_ptr_equal(w.parts_that[i].last, last);
		assert_int_equal(w.parts_that[i].nr, nr[i]);
		nr_all += nr[i];
	}
	for (uint32_t i = 0; i < NR; i++)
		nr_there += needs[i] != GONE;
	assert_int_equal(nr_all, nr_there);
	for (struct fln_job_part *p = w.parts; p; p = p->next_of_worker)
		nr_there--;
	assert_int_equal(nr_there, 0);
}

static void check_blocks(void)
{
	uint32_t nr_watched = 0, nr_due = 0;

	for (uint32_t s = 0; s < NR_SETS; s++) {
		for (struct fln_job_block *jb = heads[s]; jb; jb = jb->next_watched) {
			uint32_t i = index_of(jb->part), b = (uint32_t)(jb - jb->part->blocks);

			assert_true(b < nr_blocks[i]);
			assert_int_equal(sets[i][b], s);
			nr_watched++;
		}
	}
	for (uint32_t i = 0; i < NR; i++) {
		for (uint32_t b = 0; b < nr_blocks[i]; b++)
			nr_due += sets[i][b] != NO_SET;
	}
	assert_int_equal(nr_watched, nr_due);
}

static void open_block(uint32_t i)
{
	uint32_t b = nr_blocks[i];

	if (b == FLN_JOB_BLOCKS)
		return;
	parts[i].blocks[b] = (struct fln_job_block){ .part = &parts[i] };
	sets[i][b] = NO_SET;
	parts[i].nr_blocks = ++nr_blocks[i];
}

static void change_block(uint32_t i, uint32_t what, uint32_t set)
{
	uint32_t b = what % nr_blocks[i];

	if (what % 3 > 0) {
		fln_job_block_watch(&w, &parts[i].blocks[b], set);
		sets[i][b] = set;
		return;
	}
	fln_job_block_done(&parts[i], &parts[i].blocks[b]);
	sets[i][b] = sets[i][--nr_blocks[i]];
	assert_int_equal(parts[i].nr_blocks, nr_blocks[i]);
}

static void change_part(uint32_t i, struct rng *seed)
{
	uint32_t what = (uint32_t)(rng_next(seed) % 32);
	uint32_t more = (uint32_t)(rng_next(seed) % 1024);

	if (what == 0) {
		fln_job_part_leave(&w, &parts[i]);
		needs[i] = GONE;
		nr_blocks[i] = 0;
	} else if (what == 1) {
		fln_job_blocks_drop(&parts[i]);
		nr_blocks[i] = 0;
	} else if (what < 8) {
		needs[i] = (enum fln_job_need)(more % FLN_JOB_NEEDS_NR);
		fln_job_part_needs(&w, &parts[i], needs[i]);
		assert_ptr_equal(w.parts_that[needs[i]].last, &parts[i].next);
	} else if (what < 18 || nr_blocks[i] == 0) {
		open_block(i);
	} else {
		change_block(i, more, (uint32_t)(rng_next(seed) % NR_SETS));
	}
}

static void lists_against_a_model(void **state)
{
	struct rng seed = { 7 };

	(void)state;
	w.job_blocks = heads;
	fln_job_parts_init(&w);
	for (uint32_t i = 0; i < NR; i++)
		needs[i] = GONE;
	for (uint32_t n = 0; n < 20000; n++) {
		uint32_t i = (uint32_t)(rng_next(&seed) % NR);

		if (needs[i] == GONE) {
			parts[i] = (struct fln_job_part){ .nr_blocks = 0 };
			fln_job_part_enter(&w, &parts[i]);
			needs[i] = FLN_JOB_NEEDS_WORK;
		} else {
			change_part(i, &seed);
		}
		check_needs();
		check_blocks();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_against_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
