/* SPDX-License-Identifier: MIT */
/*
 * Statistics as text: one guest as JSON, all guests in Prometheus' exposition format.  Runs on the
 * caller's thread.
 *
 * Uses no floating point, whose printing depends on the embedder's locale.
 *
 * Tested by integration.stats_text.
 */
#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/histogram.h"
#include "base/lock.h"
#include "engine/state/engine.h"
#include "engine/state/guest.h"

#include <errno.h>
#include <faultlane/base.h>
#include <faultlane/guest.h>
#include <faultlane/stats.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A counter of struct fln_stats, or a gauge. */
struct field {
	const char *name;
	size_t offset;
	bool is_gauge;
	const char *help;
};

#define COUNTER(name, help)                                          \
	{                                                            \
#name, offsetof(struct fln_stats, name), false, help \
	}
#define GAUGE(name, help)                                           \
	{                                                           \
#name, offsetof(struct fln_stats, name), true, help \
	}

static const struct field fields[] = {
	COUNTER(faults, "Fault messages read, and signals resolved in context."),
	COUNTER(minor, "Faults whose contents were in the cache."),
	COUNTER(major, "Faults that waited for contents."),
	COUNTER(zero, "Faults on holes and on discarded pages."),
	COUNTER(invalid, "Faults outside of any region."),
	COUNTER(refaults, "Faults on pages that the engine's map called mapped."),
	COUNTER(resumed, "Faults that ended with the page mapped."),
	COUNTER(poisoned, "Faults whose page was made inaccessible."),
	COUNTER(failed, "Faults that ended in any other way."),
	GAUGE(in_flight, "Faults that have not ended."),
	COUNTER(pages_installed, "Pages mapped by faults and their windows."),
	COUNTER(pages_raced, "Pages that were already mapped when an install came to them."),
	COUNTER(installs, "Install calls to the kernel."),
	COUNTER(wakes, "Explicit wake calls to the kernel."),
	COUNTER(reads, "read() calls that returned messages."),
	COUNTER(events, "Messages other than faults: remove, unmap, remap, fork."),
	COUNTER(again, "Install calls that failed with EAGAIN."),
	COUNTER(held_full, "Faults left with the kernel because the table was full."),
	COUNTER(no_chunk, "Faults served without the page-state map."),
	GAUGE(map_bytes, "Memory of page-state maps."),
	COUNTER(in_context, "Faults resolved in context by the faulting thread."),
	COUNTER(remote, "Faults whose worker runs on another node than the memory."),
	COUNTER(populated, "Pages mapped by populate, advice and read-ahead."),
	COUNTER(no_memory, "Faults that waited more than a second for memory of the kernel."),
	COUNTER(released_bytes, "Memory that was released from its userfaultfd."),
	COUNTER(released_faults, "Faults whose block was released while they waited."),
	GAUGE(userfaultfds, "Open userfaultfds."),
};

#define NR_FIELDS (sizeof(fields) / sizeof(fields[0]))

static uint64_t value_of(const struct fln_stats *stats, const struct field *f)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + f->offset, sizeof(value));
	return value;
}

/* A text buffer.  @len counts the whole text, also the part that does not fit. */
struct text {
	char *buf;
	size_t room;  /* including the terminating zero byte */
	uint64_t len; /* excluding it */
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
	size_t room = t->len < t->room ? t->room - (size_t)t->len : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
	FLN_ASSERT(n >= 0);
	t->len += (uint64_t)n;
}

/* Length in bytes of the UTF-8 character at @s; 0: invalid. */
static uint32_t utf8_length(const unsigned char *s)
{
	uint32_t nr = s[0] < 0x80                   ? 1
		      : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
		      : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
		      : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
						    : 0;

	for (uint32_t i = 1; i < nr; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, and code points above U+10FFFF are invalid. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return nr;
}

enum quoting {
	QUOTE_JSON,
	QUOTE_LABEL
};

/* The embedder's name, which may have been truncated within a character. */
static void put_quoted(struct text *t, const char *name, enum quoting quoting)
{
	const unsigned char *s = (const unsigned char *)name;

	put(t, "\"");
	while (*s) {
		uint32_t nr = utf8_length(s);

		if (nr == 0) {
			put(t, "\xef\xbf\xbd"); /* the replacement character */
			nr = 1;
		} else if (*s == '"' || *s == '\\') {
			put(t, "\\%c", *s);
		} else if (quoting == QUOTE_LABEL && *s == '\n') {
			put(t, "\\n");
		} else if (quoting == QUOTE_JSON && *s < 0x20) {
			put(t, "\\u%04x", *s);
		} else {
			put(t, "%.*s", (int)nr, (const char *)s);
		}
		s += nr;
	}
	put(t, "\"");
}

/* Terminate the text, truncated if need be.  Returns the whole length. */
static int64_t finish(struct text *t)
{
	if (t->room > 0 && t->len >= t->room)
		t->buf[t->room - 1] = '\0';
	return (int64_t)t->len;
}

static int64_t check_buffer(const char *buf, size_t buf_len, const char *what)
{
	if (!buf && buf_len > 0)
		return fln_fail(EINVAL, "%s: buf is NULL and buf_len %zu", what, buf_len);
	return 0;
}

static void put_quantiles(struct text *t, const struct fln_histogram *h)
{
	static const struct {
		const char *name;
		double q;
	} quantiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p999", 0.999 } };

	for (uint32_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		put(t, ",\"%s\":%" PRIu64, quantiles[i].name,
		    fln_histogram_quantile(h, quantiles[i].q));
}

int64_t fln_guest_stats_json(struct fln_guest *guest, char *buf, size_t buf_len)
{
	FLN_UNCANCELLABLE;
	struct text t = { .buf = buf, .room = buf_len };
	struct fln_stats stats = FLN_STATS_INIT;
	bool first = true;
	int rc = FLN_CALL_REFUSED(guest);

	if (rc)
		return rc;
	rc = (int)check_buffer(buf, buf_len, "fln_guest_stats_json");
	if (rc == 0)
		rc = fln_guest_stats(guest, &stats);
	if (rc)
		return rc;
	put(&t, "{\"guest\":");
	put_quoted(&t, guest->name, QUOTE_JSON);
	for (uint32_t i = 0; i < NR_FIELDS; i++)
		put(&t, ",\"%s\":%" PRIu64, fields[i].name, value_of(&stats, &fields[i]));
	put(&t, ",\"oldest_ns\":%" PRIu64, stats.oldest_ns);
	put(&t, ",\"service_ns\":{\"count\":%" PRIu64 ",\"sum\":%" PRIu64 ",\"max\":%" PRIu64,
	    stats.service.count, stats.service.sum_ns, stats.service.max_ns);
	put_quantiles(&t, &stats.service);
	put(&t, ",\"buckets\":[");
	for (uint32_t i = 0; i < FLN_HISTOGRAM_NR_BUCKETS; i++) {
		if (stats.service.bucket[i] == 0)
			continue;
		put(&t, "%s[%" PRIu64 ",%" PRIu64 "]", first ? "" : ",",
		    fln_histogram_bucket_end(i), stats.service.bucket[i]);
		first = false;
	}
	put(&t, "]}}");
	return finish(&t);
}

/* A snapshot of one guest. */
struct sample {
	char name[32];
	uint64_t id;
	struct fln_stats stats;
};

static void put_labels(struct text *t, const struct sample *s)
{
	put(t, "{guest=");
	put_quoted(t, s->name, QUOTE_LABEL);
	put(t, ",id=\"%" PRIu64 "\"", s->id);
}

static void put_seconds(struct text *t, uint64_t ns)
{
	put(t, "%" PRIu64 ".%09" PRIu64, (uint64_t)(ns / FLN_NS_PER_S),
	    (uint64_t)(ns % FLN_NS_PER_S));
}

/* Powers of two in ns, about 1 us to 17 s; each is the end of a bucket of fln_histogram. */
#define FIRST_LE 10u
#define LAST_LE 34u

/*
 * The count is the sum of the buckets that were read, not the histogram's count: faults recorded
 * meanwhile may make them differ, and the format requires them to be equal.
 */
static void put_histogram(struct text *t, const struct sample *s)
{
	const struct fln_histogram *h = &s->stats.service;
	uint64_t below = 0;
	uint32_t bucket = 0;

	for (uint32_t shift = FIRST_LE; shift <= LAST_LE; shift++) {
		uint64_t le = UINT64_C(1) << shift;

		while (bucket < FLN_HISTOGRAM_NR_BUCKETS && fln_histogram_bucket_end(bucket) < le)
			below += h->bucket[bucket++];
		put(t, "faultlane_service_seconds_bucket");
		put_labels(t, s);
		put(t, ",le=\"");
		put_seconds(t, le);
		put(t, "\"} %" PRIu64 "\n", below);
	}
	while (bucket < FLN_HISTOGRAM_NR_BUCKETS)
		below += h->bucket[bucket++];
	put(t, "faultlane_service_seconds_bucket");
	put_labels(t, s);
	put(t, ",le=\"+Inf\"} %" PRIu64 "\nfaultlane_service_seconds_sum", below);
	put_labels(t, s);
	put(t, "} ");
	put_seconds(t, h->sum_ns);
	put(t, "\nfaultlane_service_seconds_count");
	put_labels(t, s);
	put(t, "} %" PRIu64 "\n", below);
}

static void put_guests(struct text *t, const struct sample *samples, uint32_t nr)
{
	for (uint32_t i = 0; i < NR_FIELDS; i++) {
		const struct field *f = &fields[i];
		const char *tail = f->is_gauge ? "" : "_total";

		put(t, "# HELP faultlane_%s%s %s\n# TYPE faultlane_%s%s %s\n", f->name, tail,
		    f->help, f->name, tail, f->is_gauge ? "gauge" : "counter");
		for (uint32_t k = 0; k < nr; k++) {
			put(t, "faultlane_%s%s", f->name, tail);
			put_labels(t, &samples[k]);
			put(t, "} %" PRIu64 "\n", value_of(&samples[k].stats, f));
		}
	}
	put(t, "# HELP faultlane_oldest_fault_seconds Age of the oldest waiting fault.\n"
	       "# TYPE faultlane_oldest_fault_seconds gauge\n");
	for (uint32_t k = 0; k < nr; k++) {
		put(t, "faultlane_oldest_fault_seconds");
		put_labels(t, &samples[k]);
		put(t, "} ");
		put_seconds(t, samples[k].stats.oldest_ns);
		put(t, "\n");
	}
	put(t, "# HELP faultlane_service_seconds Time from a fault's message to its end.\n"
	       "# TYPE faultlane_service_seconds histogram\n");
	for (uint32_t k = 0; k < nr; k++)
		put_histogram(t, &samples[k]);
}

enum node_metric {
	NODE_WORKERS,
	NODE_SHARDS,
	NODE_FAULTS,
	NODE_PAGES,
	NODE_REMOTE,
	NODE_NR_METRICS
};

static void put_nodes(struct text *t, struct fln_engine *engine)
{
	static const struct {
		const char *name, *type, *help;
	} metrics[] = {
		[NODE_WORKERS] = { "node_workers", "gauge", "Workers that run on the node." },
		[NODE_SHARDS] = { "node_shards", "gauge", "Shards served by the node's workers." },
		[NODE_FAULTS] = { "node_faults_total", "counter",
				  "Faults read by the node's workers." },
		[NODE_PAGES] = { "node_pages_installed_total", "counter",
				 "Pages mapped by the node's workers." },
		[NODE_REMOTE] = { "node_remote_total", "counter",
				  "Faults of the node's workers on memory of another node." },
	};

	for (uint32_t m = 0; m < NODE_NR_METRICS; m++) {
		struct fln_node_stats n = FLN_NODE_STATS_INIT;

		put(t, "# HELP faultlane_%s %s\n# TYPE faultlane_%s %s\n", metrics[m].name,
		    metrics[m].help, metrics[m].name, metrics[m].type);
		for (uint32_t i = 0; fln_engine_node_stats(engine, i, &n) == 0; i++) {
			const uint64_t values[] = {
				[NODE_WORKERS] = n.nr_workers, [NODE_SHARDS] = n.nr_shards,
				[NODE_FAULTS] = n.faults,      [NODE_PAGES] = n.pages_installed,
				[NODE_REMOTE] = n.remote,
			};

			put(t, "faultlane_%s{node=\"%u\"} %" PRIu64 "\n", metrics[m].name,
			    n.os_index, values[m]);
		}
	}
}

/* Take snapshots of up to @max guests, in order of creation. */
static uint32_t sample_guests(struct fln_engine *engine, struct sample *samples, uint32_t max)
{
	uint32_t nr = 0, at = 0;

	fln_lock(&engine->lock);
	for (struct fln_guest *g = engine->guests; g; g = g->next)
		nr++;
	nr = nr < max ? nr : max;
	for (struct fln_guest *g = engine->guests; g && at < nr; g = g->next) {
		struct sample *s = &samples[nr - ++at];

		memcpy(s->name, g->name, sizeof(s->name));
		s->id = g->id;
		s->stats.size = sizeof(s->stats);
		(void)fln_guest_stats(g, &s->stats);
	}
	fln_unlock(&engine->lock);
	return nr;
}

int64_t fln_engine_stats_prometheus(struct fln_engine *engine, char *buf, size_t buf_len)
{
	FLN_UNCANCELLABLE;
	struct text t = { .buf = buf, .room = buf_len };
	struct sample *samples = NULL;
	uint32_t nr = 0, max = 0;
	int rc = FLN_CALL_REFUSED(engine);

	if (rc)
		return rc;
	rc = (int)check_buffer(buf, buf_len, "fln_engine_stats_prometheus");
	if (rc)
		return rc;
	fln_lock(&engine->lock);
	for (const struct fln_guest *g = engine->guests; g; g = g->next)
		max++;
	fln_unlock(&engine->lock);
	if (max > 0) {
		samples = fln_zalloc(&engine->alloc, max * sizeof(*samples), FLN_NODE_ANY);
		if (!samples)
			return fln_fail(ENOMEM, "no memory for the statistics of %u guests", max);
		nr = sample_guests(engine, samples, max);
	}
	put(&t,
	    "# HELP faultlane_guests Number of guests.\n# TYPE faultlane_guests gauge\n"
	    "faultlane_guests %u\n",
	    nr);
	put_guests(&t, samples, nr);
	put_nodes(&t, engine);
	fln_free(&engine->alloc, samples, max * sizeof(*samples), FLN_NODE_ANY);
	return finish(&t);
}
