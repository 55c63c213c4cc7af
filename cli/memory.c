/* SPDX-License-Identifier: MIT */
/*
 * One interface to all designs under test.
 *
 * All are filled in the same way: a crew reads chunks of the file and
 * writes them to a memfd; the engine does so through its image.
 */
#include "cli/memory.h"

#include "cli/cli.h"
#include "cli/memory_state.h"
#include "measure/clock.h"
#include "measure/crew.h"
#include "measure/error.h"
#include "measure/machine.h"

#include <faultlane/faultlane.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILL_CHUNK_BYTES (UINT64_C(2) << 20)
#define MAX_MESSAGES 8u
#define DELAY_UNIT_BYTES (CLI_PART_PAGES * UINT64_C(4096))

bool cli_memory_failed(const char *what, int rc)
{
	const char *message = fln_last_error();

	measure_error("%s: %s", what, message[0] ? message : strerror(-rc));
	return false;
}

static bool put_chunk(struct measure_crew *crew, uint64_t item)
{
	struct cli_memory *m = crew->ctx;
	uint64_t lo = item * FILL_CHUNK_BYTES;
	uint64_t end =
		lo + FILL_CHUNK_BYTES < m->in->len_bytes ? lo + FILL_CHUNK_BYTES : m->in->len_bytes;
	uint64_t hi;
	char *buf = aligned_alloc(4096, FILL_CHUNK_BYTES);
	bool ok = true;

	if (!buf)
		return measure_crew_fail(crew, "no memory for a buffer of 2 MiB");
	while (ok && cli_input_next_data(m->in, &lo, end, &hi)) {
		int rc = cli_input_read(m->in, lo, buf, hi - lo);

		if (rc)
			ok = measure_crew_fail(crew, "cannot read --image '%s' at offset %llu: %s",
					       m->in->path, (unsigned long long)lo, strerror(-rc));
		else if (fln_shmem_put(&m->shmem, lo, buf, hi - lo))
			ok = measure_crew_fail(crew, "%s", fln_last_error());
		lo = hi;
	}
	free(buf);
	return ok;
}

static bool fill_range(struct measure_crew *crew, uint64_t offset_bytes, uint64_t len_bytes)
{
	struct cli_memory *m = crew->ctx;
	uint64_t left = m->in->len_bytes - offset_bytes;
	int rc = fln_image_fill(m->image, offset_bytes, len_bytes < left ? len_bytes : left);

	return rc == 0 || measure_crew_fail(crew, "cannot fill the image at offset %llu: %s",
					    (unsigned long long)offset_bytes, fln_last_error());
}

static bool fill_chunk(struct measure_crew *crew, uint64_t item)
{
	return fill_range(crew, item * FILL_CHUNK_BYTES, FILL_CHUNK_BYTES);
}

/* Fill every second unit, beginning with the first: those that --delay-ms does not delay. */
static bool fill_undelayed_unit(struct measure_crew *crew, uint64_t item)
{
	return fill_range(crew, item * 2 * DELAY_UNIT_BYTES, DELAY_UNIT_BYTES);
}

static bool fill(struct cli_memory *m, uint64_t stride_bytes,
		 bool (*work)(struct measure_crew *crew, uint64_t item))
{
	struct measure_crew crew;
	uint64_t start_ns = measure_now_ns();
	uint64_t nr = (m->in->len_bytes + stride_bytes - 1) / stride_bytes;

	if (!measure_crew_run(&crew, "filling", nr, work, m))
		return false;
	m->fill_seconds = (double)(measure_now_ns() - start_ns) / 1e9;
	return true;
}

static bool create_baseline(struct cli_memory *m)
{
	struct fln_handler_opts opts = {
		.len_bytes = m->in->len_bytes,
		.design =
			m->o.design == CLI_SINGLE ? FLN_HANDLER_SINGLE : FLN_HANDLER_SINGLE_WINDOW,
		.window_first = m->o.window_first,
		.window_max = m->o.window_max,
		.user_mode_only = m->o.user_mode_only,
	};
	bool huge = m->o.page_size == CLI_PAGE_2M;
	int rc = huge ? fln_shmem_init_huge(&m->shmem, m->in->len_bytes)
		      : fln_shmem_init(&m->shmem, m->in->len_bytes);

	if (rc)
		return cli_memory_failed("cannot create the memory", rc);
	if (!fill(m, FILL_CHUNK_BYTES, put_chunk))
		return false;
	rc = fln_shmem_map(&m->shmem);
	if (rc)
		return cli_memory_failed("cannot map the memory", rc);
	m->addrs[0] = m->shmem.addr;
	if (m->o.design == CLI_KERNEL)
		return true;
	opts.addr = m->shmem.addr;
	rc = fln_handler_start(&opts, &m->handler);
	return rc == 0 || cli_memory_failed("cannot start the fault handler", rc);
}

/* Rate-limit: a failing source logs once per page. */
static void log_to_stderr(void *ctx, enum fln_log_level level, const char *msg)
{
	static _Atomic uint32_t nr_logged;
	uint32_t nr;

	(void)ctx;
	if (level > FLN_LOG_WARNING)
		return;
	nr = atomic_fetch_add(&nr_logged, 1);
	if (nr < MAX_MESSAGES)
		measure_error("%s: %s", level == FLN_LOG_ERROR ? "error" : "warning", msg);
	else if (nr == MAX_MESSAGES)
		measure_error("further messages suppressed");
}

static bool start_engine(struct cli_memory *m)
{
	struct fln_engine_opts opts = FLN_ENGINE_OPTS_INIT;
	int rc;

	opts.log = log_to_stderr;
	opts.nr_workers = m->o.nr_workers;
	opts.worker_cpus = m->o.worker_cpus;
	opts.vcpu_cpus = m->o.vcpu_cpus;
	if (!m->o.pin)
		opts.flags |= FLN_ENGINE_F_NO_PIN;
	if (m->o.keep_nice)
		opts.worker_nice = FLN_NICE_KEEP;
	if (m->o.user_mode_only)
		opts.flags |= FLN_ENGINE_F_USER_MODE_ONLY;
	if (m->o.spin_us != UINT64_MAX)
		opts.spin_ns = m->o.spin_us ? m->o.spin_us * 1000 : UINT64_MAX;
	rc = fln_engine_create(&opts, &m->engine);
	if (rc == 0)
		rc = fln_engine_start(m->engine);
	return rc == 0 || cli_memory_failed("cannot start the engine", rc);
}

static bool open_source(struct cli_memory *m)
{
	struct fln_source_delay_opts opts = FLN_SOURCE_DELAY_OPTS_INIT;
	struct fln_source *slow;
	int rc = fln_source_open_file(m->in->path, 0, &m->source);

	if (rc)
		return cli_memory_failed("cannot open the image", rc);
	if (m->o.delay_ms == 0)
		return true;
	opts.delay_ns = m->o.delay_ms * 1000000;
	opts.every_pages = CLI_PART_PAGES;
	rc = fln_source_with_delay(m->source, &opts, &slow);
	if (rc)
		return cli_memory_failed("cannot wrap the source with a delay", rc);
	fln_source_destroy(m->source); /* the wrapper holds a reference */
	m->source = slow;
	return true;
}

static bool create_image(struct cli_memory *m)
{
	struct fln_image_opts opts = FLN_IMAGE_OPTS_INIT;
	int rc;

	opts.len_bytes = m->in->len_bytes;
	opts.source = m->source;
	opts.page_bytes = m->o.page_size == CLI_PAGE_2M ? 2u << 20 : 4096;
	opts.folio = (uint32_t)m->o.folio;
	opts.node = (uint32_t)(m->o.node + 1); /* 0 means any node */
	rc = fln_image_create(m->engine, &opts, &m->image);
	if (rc)
		return cli_memory_failed("cannot create the image", rc);
	if (m->o.source == CLI_MEMORY)
		return fill(m, FILL_CHUNK_BYTES, fill_chunk);
	return !m->o.prefill || fill(m, 2 * DELAY_UNIT_BYTES, fill_undelayed_unit);
}

/* Advise, lock or populate a guest's memory, as the options say. */
static bool advise(struct cli_memory *m, uint32_t i)
{
	static const enum fln_advice advice[CLI_NR_ADVICES] = {
		FLN_ADVICE_NORMAL,
		FLN_ADVICE_SEQUENTIAL,
		FLN_ADVICE_RANDOM,
	};
	uint64_t addr = (uint64_t)(uintptr_t)m->addrs[i], len = m->in->len_bytes;
	int rc = 0;

	if (m->o.advice != CLI_NORMAL)
		rc = fln_guest_advise(m->guests[i], addr, len, advice[m->o.advice]);
	if (rc)
		return cli_memory_failed("fln_guest_advise() failed", rc);
	if (m->o.lock)
		rc = fln_guest_lock(m->guests[i], addr, len);
	else if (m->o.populate)
		rc = fln_guest_populate(m->guests[i], addr, len, NULL);
	return rc == 0 || cli_memory_failed(m->o.lock ? "cannot lock the memory"
						      : "cannot populate the memory",
					    rc);
}

static bool create_guest(struct cli_memory *m, uint32_t i)
{
	struct fln_guest_opts guest_opts = FLN_GUEST_OPTS_INIT;
	struct fln_region_opts region_opts = FLN_REGION_OPTS_INIT;
	struct fln_region *region;
	int rc;

	guest_opts.nr_vcpus = m->o.nr_threads / m->o.nr_guests;
	guest_opts.nr_shards = m->o.nr_shards;
	guest_opts.window_first = m->o.window_first;
	guest_opts.window_max = m->o.window_max;
	guest_opts.release =
		m->o.release == CLI_RELEASE_AUTO ? FLN_RELEASE_AUTO : FLN_RELEASE_NEVER;
	rc = fln_guest_create(m->engine, &guest_opts, &m->guests[i]);
	if (rc)
		return cli_memory_failed("cannot create the guest", rc);
	region_opts.image = m->image;
	region_opts.len_bytes = m->in->len_bytes;
	if (m->o.sharing == CLI_PRIVATE)
		region_opts.sharing = FLN_SHARING_PRIVATE;
	region_opts.node = (uint32_t)(m->o.node + 1); /* 0 means any node */
	if (m->o.delivery == CLI_IN_CONTEXT)
		region_opts.delivery = FLN_DELIVERY_IN_CONTEXT;
	/*
	 * Nothing is discarded here.  Private regions are released, and served in context, only
	 * with this meaning.
	 */
	if (m->o.delivery == CLI_IN_CONTEXT ||
	    (m->o.sharing == CLI_PRIVATE && m->o.release == CLI_RELEASE_AUTO))
		region_opts.discard = FLN_DISCARD_IMAGE;
	rc = fln_region_add(m->guests[i], &region_opts, &region);
	if (rc)
		return cli_memory_failed("cannot add the guest's memory", rc);
	m->addrs[i] = fln_region_addr(region);
	rc = fln_guest_start(m->guests[i]);
	if (rc)
		return cli_memory_failed("cannot start the guest", rc);
	return advise(m, i);
}

static bool create_guests(struct cli_memory *m)
{
	for (uint32_t i = 0; i < m->o.nr_guests; i++) {
		if (!create_guest(m, i))
			return false;
	}
	return true;
}

static void free_memory(struct cli_memory *m)
{
	free(m->guests);
	free(m->addrs);
	free(m);
}

struct cli_memory *cli_memory_create(const struct cli_options *o, const struct cli_input *in)
{
	struct cli_memory *m = calloc(1, sizeof(*m));
	bool ok;

	if (m) {
		m->addrs = calloc(o->nr_guests, sizeof(*m->addrs));
		m->guests = calloc(o->nr_guests, sizeof(struct fln_guest *));
	}
	if (!m || !m->addrs || !m->guests) {
		measure_error("out of memory");
		if (m)
			free_memory(m);
		return NULL;
	}
	m->o = *o;
	m->in = in;
	m->shmem.memfd = -1;
	if (o->design == CLI_ENGINE)
		ok = start_engine(m) && open_source(m) && create_image(m) && create_guests(m);
	else
		ok = create_baseline(m);
	if (ok)
		return m;
	cli_memory_destroy(m);
	return NULL;
}

void cli_memory_destroy(struct cli_memory *m)
{
	int rc;

	if (!m)
		return;
	fln_handler_stop(m->handler);
	fln_shmem_deinit(&m->shmem);
	for (uint32_t i = 0; i < m->o.nr_guests; i++)
		(void)fln_guest_destroy(m->guests[i]);
	rc = fln_image_destroy(m->image);
	if (rc)
		(void)cli_memory_failed("cannot destroy the image", rc);
	fln_source_destroy(m->source);
	rc = fln_engine_destroy(m->engine);
	if (rc)
		(void)cli_memory_failed("cannot stop the engine", rc);
	free_memory(m);
}

char *const *cli_memory_addrs(const struct cli_memory *m)
{
	return m->addrs;
}

int cli_memory_image(const struct cli_memory *m)
{
	return m->image ? fln_image_memfd(m->image) : -1;
}

double cli_memory_fill_seconds(const struct cli_memory *m)
{
	return m->fill_seconds;
}
