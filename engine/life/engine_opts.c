/* SPDX-License-Identifier: MIT */
/*
 * The engine's options: limits, defaults, and what is refused.
 *
 * Tested by integration.bad_input, integration.life_calls.
 */
#include "engine/life/engine_opts.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/page.h"
#include "engine/state/engine.h"
#include "engine/state/worker.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/engine.h>

#define MAX_FILLERS 256u
#define DEFAULT_FILLERS 4u
#define DEFAULT_BATCH 64u
#define DEFAULT_HELD 4096u
#define DEFAULT_FILL_PAGES 64u
#define DEFAULT_RETRIES 3u
#define DEFAULT_STALL_REPORT_MS 10000u
#define DEFAULT_SOURCE_TIMEOUT_NS (30 * FLN_NS_PER_S)
#define FALLBACK_MAX_MAP_COUNT 65530u

/* Take @value in [lo, hi], or the default for 0. */
static int take_u32(uint32_t *value, uint32_t lo, uint32_t hi, uint32_t dflt, const char *name)
{
	if (*value == 0)
		*value = dflt;
	if (*value < lo || *value > hi)
		return fln_fail(EINVAL, "engine: %s is %u; use %u to %u", name, *value, lo, hi);
	return 0;
}

static uint32_t read_max_map_count(void)
{
	uint64_t value = 0;

	(void)fln_fd_read_number("/proc/sys/vm/max_map_count", 0, &value);
	return value > 0 && value <= UINT32_MAX ? (uint32_t)value : FALLBACK_MAX_MAP_COUNT;
}

int fln_engine_set_defaults(struct fln_engine_opts *o)
{
	uint64_t known = FLN_ENGINE_F_NO_PIN | FLN_ENGINE_F_USER_MODE_ONLY;
	int rc;

	if (o->flags & ~known)
		return fln_fail(EINVAL, "engine: flags has unknown bits 0x%llx; leave them out",
				(unsigned long long)(o->flags & ~known));
	if (o->reserved)
		return fln_fail(EINVAL, "engine: reserved is %u; set it to 0", o->reserved);
	if (o->worker_nice != FLN_NICE_KEEP && (o->worker_nice < -20 || o->worker_nice > 19))
		return fln_fail(EINVAL,
				"engine: worker_nice is %d; use -20 to 19, or "
				"FLN_NICE_KEEP",
				o->worker_nice);
	rc = take_u32(&o->nr_fillers, 1, MAX_FILLERS, DEFAULT_FILLERS, "nr_fillers");
	if (rc == 0)
		rc = take_u32(&o->batch_max, 1, FLN_BATCH_LIMIT, DEFAULT_BATCH, "batch_max");
	if (rc == 0)
		rc = take_u32(&o->held_max, o->batch_max, 1u << 20,
			      o->batch_max > DEFAULT_HELD ? o->batch_max : DEFAULT_HELD,
			      "held_max");
	if (rc == 0)
		rc = take_u32(&o->fill_pages, 1, FLN_BLOCK_PAGES, DEFAULT_FILL_PAGES, "fill_pages");
	if (rc)
		return rc;
	if (!fln_is_pow2(o->fill_pages))
		return fln_fail(EINVAL, "engine: fill_pages is %u; use a power of two",
				o->fill_pages);
	if (o->source_retries == 0)
		o->source_retries = DEFAULT_RETRIES;
	else if (o->source_retries == UINT32_MAX)
		o->source_retries = 0;
	if (o->source_timeout_ns == 0)
		o->source_timeout_ns = DEFAULT_SOURCE_TIMEOUT_NS;
	if (o->stall_report_ms == 0)
		o->stall_report_ms = DEFAULT_STALL_REPORT_MS;
	if (o->max_stripes == 0)
		o->max_stripes = read_max_map_count() / 4;
	return 0;
}

int fln_engine_take_hooks(struct fln_engine *engine)
{
	const struct fln_thread_hooks *from = engine->opts.thread_hooks;
	int rc;

	if (!from)
		return 0;
	rc = fln_opts_copy(&engine->hooks, sizeof(engine->hooks), from, "fln_thread_hooks");
	if (rc)
		return rc;
	if (!engine->hooks.create != !engine->hooks.join)
		return fln_fail(EINVAL, "engine: thread_hooks has %s without %s; give both or none",
				engine->hooks.create ? "create" : "join",
				engine->hooks.create ? "join" : "create");
	engine->opts.thread_hooks = &engine->hooks;
	return 0;
}
