/* SPDX-License-Identifier: MIT */
/* A worker's lists of its parts of jobs, and of the blocks that wait for images. */
#include "engine/job_parts.h"

#include "base/error.h"
#include "engine/state/worker.h"
#include "sources/changed.h"

/*
 * Lists are doubly linked: the at_ field of an entry points to the pointer that leads to the entry,
 * so that it can be taken out without a search.
 */
static void append(struct fln_job_list *list, struct fln_job_part *part)
{
	part->next = NULL;
	part->at_list = list->last;
	*list->last = part;
	list->last = &part->next;
	list->nr++;
}

static void take_out(struct fln_job_list *list, struct fln_job_part *part)
{
	*part->at_list = part->next;
	if (part->next)
		part->next->at_list = part->at_list;
	else
		list->last = part->at_list;
	list->nr--;
}

void fln_job_parts_init(struct fln_worker *w)
{
	w->parts = NULL;
	for (uint32_t i = 0; i < FLN_JOB_NEEDS_NR; i++)
		w->parts_that[i] = (struct fln_job_list){ .last = &w->parts_that[i].first };
}

void fln_job_part_enter(struct fln_worker *w, struct fln_job_part *part)
{
	part->next_of_worker = w->parts;
	part->at_worker = &w->parts;
	if (w->parts)
		w->parts->at_worker = &part->next_of_worker;
	w->parts = part;
	part->need = FLN_JOB_NEEDS_WORK;
	append(&w->parts_that[part->need], part);
}

void fln_job_part_leave(struct fln_worker *w, struct fln_job_part *part)
{
	fln_job_blocks_drop(part);
	take_out(&w->parts_that[part->need], part);
	*part->at_worker = part->next_of_worker;
	if (part->next_of_worker)
		part->next_of_worker->at_worker = part->at_worker;
}

void fln_job_part_needs(struct fln_worker *w, struct fln_job_part *part, enum fln_job_need need)
{
	take_out(&w->parts_that[part->need], part);
	part->need = need;
	append(&w->parts_that[need], part);
}

static void unwatch(struct fln_job_block *jb)
{
	if (!jb->at_watched)
		return;
	*jb->at_watched = jb->next_watched;
	if (jb->next_watched)
		jb->next_watched->at_watched = jb->at_watched;
	jb->at_watched = NULL;
}

void fln_job_block_watch(struct fln_worker *w, struct fln_job_block *jb, uint32_t set)
{
	if (jb->at_watched && jb->set == set)
		return;
	unwatch(jb);
	jb->set = set;
	jb->next_watched = w->job_blocks[set];
	jb->at_watched = &w->job_blocks[set];
	if (jb->next_watched)
		jb->next_watched->at_watched = &jb->next_watched;
	w->job_blocks[set] = jb;
}

void fln_job_block_done(struct fln_job_part *part, struct fln_job_block *jb)
{
	struct fln_job_block *last = &part->blocks[--part->nr_blocks];

	unwatch(jb);
	if (jb == last)
		return;
	*jb = *last;
	/* The last block has moved to @jb: its neighbours in the list must point there. */
	if (!jb->at_watched)
		return;
	*jb->at_watched = jb;
	if (jb->next_watched)
		jb->next_watched->at_watched = &jb->next_watched;
}

void fln_job_blocks_drop(struct fln_job_part *part)
{
	for (uint32_t i = 0; i < part->nr_blocks; i++)
		unwatch(&part->blocks[i]);
	part->nr_blocks = 0;
}
